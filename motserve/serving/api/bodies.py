"""Bodies of requests: their kind, their OpenAPI description, and limits of their size, speed and number."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel

from motserve.config.serving import UploadsConfig
from motserve.errors import BadRequest, Overloaded, TooLarge, TooSlow, UnsupportedMedia
from motserve.serving.api.openapi.headers import reference

FORM_OVERHEAD: Final = 64 << 10
"""Most bytes of a form besides its file: part headers and other fields."""

_MAX_JSON_BYTES = 64 << 10
_BLOCK_BYTES = 256 << 10
_MAX_LENGTH_DIGITS = 19
_IPV6_PREFIX = 64  # bits of the network of one client


class UploadSlots:
    """Bounds the number of bodies that a replica receives at a time, so that other requests never wait behind them.

    Args:
        uploads: Has `max_concurrent` and `max_per_client`.
        retry_after_s: Seconds after which a refused client may try again.
    """

    def __init__(self, uploads: UploadsConfig, retry_after_s: int) -> None:
        self._most = uploads.max_concurrent
        self._most_per_client = uploads.max_per_client
        self._retry_after_s = retry_after_s
        self._used = 0
        self._used_by: Counter[str] = Counter()

    @contextmanager
    def slot(self, request: Request) -> Iterator[None]:
        """Receive the body of a request inside this context manager.

        Raises:
            Overloaded: `max_concurrent` bodies are being received, or `max_per_client` from the address of this client.
        """
        client = client_network(request)
        if self._used_by[client] >= self._most_per_client:
            raise Overloaded(
                f"{self._used_by[client]} uploads from {client} are under way, the most that a replica of this service "
                "receives from one client at a time (serving.uploads.max_per_client); try later",
                self._retry_after_s,
            )
        if self._used >= self._most:
            raise Overloaded(
                f"{self._used} uploads are under way, the most that a replica of this service receives at a time "
                "(serving.uploads.max_concurrent); try later",
                self._retry_after_s,
            )
        self._used += 1
        self._used_by[client] += 1
        try:
            yield
        finally:
            self._used -= 1
            self._used_by[client] -= 1
            self._used_by += Counter()  # removes clients without uploads


def client_network(request: Request) -> str:
    """Return the address that a request comes from; of IPv6 the network, because a client has a whole one."""
    host = request.client.host if request.client else "an unknown address"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))


def body_kind(request: Request) -> str:
    """Return `form` or `json` for the content type of a request.

    Raises:
        UnsupportedMedia: The content type is another one.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kinds = {"multipart/form-data": "form", "application/json": "json"}
    if content_type not in kinds:
        raise UnsupportedMedia(
            f"the request has {f'content type {content_type}' if content_type else 'no content type'}; "
            "post multipart/form-data with a file, or application/json"
        )
    return kinds[content_type]


def declared_length(request: Request) -> int:
    """Return the `Content-Length` of a request in bytes; 0 if it has none.

    Raises:
        BadRequest: The header is not a number.
    """
    text = request.headers.get("content-length", "0").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_LENGTH_DIGITS):
        raise BadRequest("the Content-Length is not a number of bytes")
    return int(text)


def describe_body(
    file: str, media_types: str, json: type[BaseModel], fields: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return the OpenAPI description of a body that is either a form with one file or JSON.

    Args:
        file: Description of the file.
        media_types: Media types of the file.
        json: The model of the JSON body.
        fields: The model of the other fields of the form; None if they are ignored.
    """
    properties = {"file": {"type": "string", "format": "binary", "description": file}, **_form_fields(fields)}
    schema = {"type": "object", "required": ["file"], "properties": properties, "additionalProperties": fields is None}
    form = {"schema": schema, "encoding": {"file": {"contentType": media_types}}}
    content = {"multipart/form-data": form, "application/json": {"schema": reference(json)}}
    return {"requestBody": {"required": True, "content": content}}


def _form_fields(model: type[BaseModel] | None) -> dict[str, Any]:
    """Return the schemas of the fields of a form, without null, which a form cannot hold."""
    fields = model.model_json_schema()["properties"] if model else {}
    for schema in fields.values():
        for kind in schema.pop("anyOf", ()):
            if kind != {"type": "null"}:
                schema.update(kind)
        if schema.get("default", ...) is None:
            del schema["default"]
    return fields


async def read_json(request: Request, uploads: UploadsConfig) -> bytes:
    """Read a JSON body.

    Raises:
        TooLarge: It has more than 64 KiB.
        TooSlow: It does not arrive.
    """
    body = bytearray()
    async for block in arriving(request, uploads):
        body += block
        if len(body) > _MAX_JSON_BYTES:
            raise TooLarge(f"the JSON body is larger than {_MAX_JSON_BYTES} bytes")
    return bytes(body)


async def capped(request: Request, uploads: UploadsConfig, max_bytes: int, setting: str) -> AsyncIterator[bytes]:
    """Yield the body of a form in blocks of 256 KiB, and stop at the size limit.

    Args:
        request: The request, its body not read yet.
        uploads: Least speed.
        max_bytes: Size of the largest accepted file.
        setting: Configuration key of the limit, for the error message.

    Raises:
        TooLarge: The body, or its declared length, is larger; the rest of it is not read.
        TooSlow: It does not arrive.
    """
    too_large = TooLarge(f"the upload is larger than {max_bytes} bytes, the limit of this service ({setting})")
    if declared_length(request) > max_bytes + FORM_OVERHEAD:
        raise too_large
    received = 0
    block = bytearray()
    async for data in arriving(request, uploads):
        received += len(data)
        if received > max_bytes + FORM_OVERHEAD:
            raise too_large
        block += data
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


async def arriving(
    request: Request, uploads: UploadsConfig, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they arrive.

    Args:
        request: The request, its body not read yet.
        uploads: Least speed.
        clock: Monotonic clock in seconds.

    Raises:
        TooSlow: No part arrived for `idle_s`, or the body is slower than `min_bytes_per_s`.
    """
    parts = aiter(request.stream())
    began, received = clock(), 0
    while True:
        try:
            part = await asyncio.wait_for(anext(parts), uploads.idle_s)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise TooSlow(f"no part of the body arrived for {uploads.idle_s:g} s (serving.uploads.idle_s)") from None
        received += len(part)
        late_s = clock() - began - uploads.idle_s
        if part and received < late_s * uploads.min_bytes_per_s:
            raise TooSlow(
                f"the body arrives at less than {uploads.min_bytes_per_s} bytes/s (serving.uploads.min_bytes_per_s)"
            )
        yield part
