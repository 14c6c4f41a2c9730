"""Takes in a posted video: a form streamed to disk under a limit of size, or a URL under a limit of place.

What all request bodies need is here too: the kind of a body, its description, limits of its size, the parser of a form.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FileError, FormParserError
from python_multipart.multipart import Field, File, FormParser, MultipartParser, parse_options_header

from motserve.config import ServingConfig
from motserve.errors import BadRequest, Forbidden, NotFound, TooLarge, UnsupportedMedia
from motserve.files.names import readable
from motserve.models.credentials import without_credentials
from motserve.serving.api.schemas import VideoUrl

_FORM_OVERHEAD = 64 << 10  # what a form may hold beside the bytes of its file: its wrapping and other fields
_MAX_JSON_BYTES = 64 << 10
_BLOCK_BYTES = 256 << 10
_MOST_DIGITS = 19  # of a length
_MOST_CHARACTERS = 255  # of a name


async def receive_form(request: Request, folder: Path, target: Path, max_bytes: int) -> str:
    """Write the one file of a multipart form to disk as it arrives.

    Args:
        request: The request, its body not read yet.
        folder: Folder on the file system of the target, for the file while it is incomplete.
        target: Where the complete file goes.
        max_bytes: Largest file accepted.

    Returns:
        The file's name as the client gave it.

    Raises:
        TooLarge: The file is larger; the rest of the body is not read.
        BadRequest: The form is malformed, empty, does not hold exactly one file, or much beside it.
    """
    files: list[File] = []
    settings = {"UPLOAD_DIR": str(folder), "UPLOAD_DELETE_TMP": False, "MAX_MEMORY_FILE_SIZE": 0}
    parser = form_parser(request, settings, on_file=files.append)
    try:
        async for block in capped(request, max_bytes, "serving.max_upload_bytes"):
            await asyncio.to_thread(parser.write, block)
        parser.finalize()
    except FileError as error:  # its cause is the disk, not the form
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
    except FormParserError as error:
        raise BadRequest(f"the form is malformed: {error}") from error
    finally:
        for file in files:
            file.close()
        parser.close()
    if len(files) != 1:
        raise BadRequest(f"the form must hold exactly one file, it holds {len(files)}")
    name = display_name(files[0].file_name, "video")
    if not files[0].size:
        raise BadRequest(f"the posted file {name} is empty")
    if files[0].actual_file_name is None:
        raise BadRequest(f"the posted file {name} did not arrive whole")
    arrived = Path(os.fsdecode(files[0].actual_file_name))
    target.touch()
    # the parser makes files that no other user may read, and whoever restores a backup may be another
    shutil.copymode(target, arrived)
    arrived.replace(target)
    return name


async def receive_url(request: Request, config: ServingConfig) -> Path:
    """Read a JSON body with the URL of a video and check that it may be read.

    Returns:
        The path of the video, symbolic links resolved.

    Raises:
        BadRequest: The body is not `{"url": …}` or the URL's scheme is not known.
        Forbidden: The path is not below one of `serving.allowed_roots`.
        NotFound: Nothing is there.
    """
    try:
        url = VideoUrl.model_validate_json(await read_json(request)).url
    except ValidationError as error:
        raise BadRequest(f'the body must be {{"url": "file:///…"}}: {error.errors()[0]["msg"]}') from error
    try:
        # resolved before it is compared, so that neither `..` nor a symbolic link leads out of the root
        path = _path_of(url).resolve()
        if not any(path.is_relative_to(root.resolve()) for root in config.allowed_roots):
            raise Forbidden(f"{url} is not below one of the folders that the service may read (serving.allowed_roots)")
        if not path.exists():
            raise NotFound(f"there is no video at {url}")
    except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle
        raise NotFound(f"there is no video at {url}") from error
    return path


def display_name(name: bytes | str | None, default: str) -> str:
    """Return what a video or a picture is called in answers and logs, whatever bytes its client called it.

    Args:
        name: The name that was given, a path or not.
        default: What it is called without one.
    """
    text = os.fsdecode(name or b"").replace("\\", "/").rstrip("/").rpartition("/")[2]
    return readable(text[:_MOST_CHARACTERS]) or default


def _path_of(url: str) -> Path:
    """Return the path in a `file://` URL, whose percent signs stand for any bytes.

    Raises:
        BadRequest: It is no such URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadRequest(f"{url} is no URL: {error}") from error
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        known = "only file:// URLs of this service's own disk are known"
        raise BadRequest(f"{without_credentials(url)}: {known}; live sources are not read yet")
    if parts.query or parts.fragment:
        raise BadRequest(f"{url}: ? and # are written %3F and %23 in the path of a file")
    decoded = unquote_to_bytes(parts.path)
    if b"\0" in decoded:
        raise BadRequest("the URL holds a zero byte")
    return Path(os.fsdecode(decoded))


def body_kind(request: Request) -> str:
    """Return `form` or `json` for the type of the request body.

    Raises:
        UnsupportedMedia: It is neither.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kinds = {"multipart/form-data": "form", "application/json": "json"}
    if content_type not in kinds:
        raise UnsupportedMedia(
            f"the body is {content_type or 'of no type'}; post multipart/form-data with a file, or application/json"
        )
    return kinds[content_type]


def declared_length(request: Request) -> int:
    """Return the bytes that a request says its body has; 0 where it does not say.

    Raises:
        BadRequest: What it says is no number.
    """
    text = request.headers.get("content-length", "0").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise BadRequest("the Content-Length is no number of bytes")
    return int(text)


def describe_body(file: str, json: type[BaseModel], fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what OpenAPI says of a body that is a form with one file, or JSON.

    Args:
        file: What the file is.
        json: The JSON body.
        fields: Schemas of the other fields of the form.
    """
    properties = {"file": {"type": "string", "format": "binary", "description": file}, **(fields or {})}
    form = {"schema": {"type": "object", "required": ["file"], "properties": properties}}
    content = {"multipart/form-data": form, "application/json": {"schema": json.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def read_json(request: Request) -> bytes:
    """Read a JSON body.

    Raises:
        TooLarge: It is larger than any that is of use here.
    """
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > _MAX_JSON_BYTES:
            raise TooLarge(f"a JSON body of more than {_MAX_JSON_BYTES} bytes is refused")
    return bytes(body)


def form_parser(
    request: Request,
    settings: dict[str, Any],
    on_file: Callable[[File], None],
    on_field: Callable[[Field], None] | None = None,
) -> FormParser:
    """Return a parser for the multipart form of a request, which holds one file.

    The parser raises BadRequest at a second file, and where a form holds more than a little beside its file: that would
    be kept in memory.

    Args:
        request: The request.
        settings: Where files go: the parser's own settings.
        on_file: Called with each file once it is complete.
        on_field: Called with each field that is no file; None passes over them.

    Raises:
        BadRequest: The header that should say how the parts of the form are told apart does not.
    """
    kind, options = parse_options_header(request.headers["content-type"])
    if b"boundary" not in options:
        raise BadRequest("the form has no boundary in its Content-Type")
    form = FormParser(kind.decode(), on_field, on_file, boundary=options[b"boundary"], config=settings)
    if isinstance(form.parser, MultipartParser):
        _Parts().watch(form.parser)
    return form


class _Parts:
    """Counts what a form holds while it arrives; the parser tells of a part only when it has all of it."""

    def __init__(self) -> None:
        self._files = 0
        self._in_file = False
        self._beside = 0
        self._name = b""
        self._value = b""
        self._disposition = b""

    def watch(self, parser: MultipartParser) -> None:
        """Be called before what the parser calls already."""
        before: dict[str, Callable[..., None]] = {
            "part_begin": self._begin,
            "header_field": self._header_name,
            "header_value": self._header_value,
            "header_end": self._header_end,
            "headers_finished": self._headers_finished,
            "part_data": self._data,
        }
        callbacks: Mapping[str, Any] = dict(parser.callbacks)
        for name, call in before.items():
            parser.set_callback(name, _one_after_the_other(call, callbacks[f"on_{name}"]))  # type: ignore[arg-type]

    def _begin(self) -> None:
        self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        self._in_file = b"filename" in parse_options_header(self._disposition)[1]
        self._files += self._in_file
        if self._files > 1:
            raise BadRequest(f"the form must hold exactly one file, it holds {self._files} or more")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._count(end - start)

    def _count(self, size: int) -> None:
        self._beside += size
        if self._beside > _FORM_OVERHEAD:
            raise BadRequest(f"the form holds more than {_FORM_OVERHEAD} bytes beside its file")


def _one_after_the_other(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def both(*values: Any) -> None:
        first(*values)
        second(*values)

    return both


async def capped(request: Request, max_bytes: int, setting: str) -> AsyncIterator[bytes]:
    """Gather the body of a form into blocks worth a write, and stop reading past the limit.

    Args:
        request: The request, its body not read yet.
        max_bytes: Largest file accepted.
        setting: The key of the configuration that sets the limit.

    Raises:
        TooLarge: The body is larger, or says so beforehand; the rest of it is not read.
    """
    refusal = TooLarge(f"the upload is larger than {max_bytes} bytes, the limit of this service ({setting})")
    if declared_length(request) > max_bytes + _FORM_OVERHEAD:
        raise refusal
    received = 0
    block = bytearray()
    async for piece in request.stream():
        received += len(piece)
        if received > max_bytes + _FORM_OVERHEAD:
            raise refusal
        block += piece
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)
