"""Conditional requests, `If-None-Match`, `If-Modified-Since` and 304, and ranges (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Receive, Scope, Send

from motserve.errors import UnsatisfiableRange
from motserve.files.names import to_json

NOT_MODIFIED: Final[dict[str, Any]] = {"description": "The client's copy is current."}
"""The OpenAPI description of 304."""

_RANGE: Final = re.compile("([0-9]{0,100})-([0-9]{0,100})")
_HEADERS_OF_304: Final = ("cache-control", "content-location", "etag", "last-modified", "vary")


def etag_of(*parts: object) -> str:
    """Return a strong `ETag`: a hash of some values.

    Args:
        parts: All values that the bytes of the response depend on; they must be serializable as JSON.
    """
    return f'"{hashlib.sha256(to_json(parts)).hexdigest()[:32]}"'


def http_date(seconds: float) -> str:
    """Return seconds since the epoch as an HTTP date."""
    return format_datetime(datetime.fromtimestamp(int(seconds), timezone.utc), usegmt=True)


def unless_known(request: Request, response: Response) -> Response:
    """Return a response, or 304 if the client's copy is current.

    Args:
        request: A GET or HEAD request.
        response: The response with its `ETag`, `Last-Modified` or both.
    """
    if not _is_known(request, response.headers.get("etag"), response.headers.get("last-modified")):
        return response
    return Response(None, 304, {name: response.headers[name] for name in _HEADERS_OF_304 if name in response.headers})


def headers_only(media_type: str, headers: Mapping[str, str]) -> Response:
    """Return the response to HEAD if the length of the body that GET sends is not known."""
    response = Response(None, 200, headers, media_type)
    del response.headers["content-length"]  # it would be 0, as if the resource were empty
    return response


class RangedFile(FileResponse):
    """A file, or the parts that the request asks for. Starlette itself answers an invalid `Range` with a plain text."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file.

        Raises:
            UnsatisfiableRange: The parts begin after the end of the file.
        """
        headers = Headers(scope=scope)
        wanted, condition = headers.get("range"), headers.get("if-range")
        if wanted is not None and condition in (None, self.headers["etag"], self.headers["last-modified"]):
            changed = MutableHeaders(raw=list(scope["headers"]))
            del changed["range"]
            if ranges := satisfiable(wanted, int(self.headers["content-length"])):
                changed["range"] = ranges
            scope = {**scope, "headers": changed.raw}
        await super().__call__(scope, receive, send)


def satisfiable(ranges: str, size: int) -> str | None:
    """Return the parts of a `Range` header that a file has; None if the header is to be ignored.

    Args:
        ranges: The value of the header.
        size: Size of the file in bytes.

    Raises:
        UnsatisfiableRange: The file has none of the parts.
    """
    unit, _, listed = ranges.partition("=")
    parts = [part for each in listed.split(",") if (part := each.strip(" \t"))]
    if unit.strip().lower() != "bytes" or not parts or not all(map(_is_range, parts)):
        return None  # other units and invalid ranges are ignored
    there = [part for part in parts if _begins_within(part, size)]
    if not there:
        raise UnsatisfiableRange(f"the file has {size} bytes; each range begins after its end", size)
    return f"bytes={','.join(there)}"


def _is_range(part: str) -> bool:
    match = _RANGE.fullmatch(part)
    if match is None:
        return False
    first, last = match.groups()
    return bool(last or first) and not (first and last and int(last) < int(first))


def _begins_within(part: str, size: int) -> bool:
    first, _, last = part.partition("-")
    return int(first) < size if first else int(last) > 0


def _is_known(request: Request, etag: str | None, modified: str | None) -> bool:
    if_none_match = request.headers.getlist("if-none-match")
    if if_none_match:  # it takes precedence over the date
        if etag is None:
            return False
        tags = [tag.strip().removeprefix("W/") for tag in ",".join(if_none_match).split(",")]
        return "*" in tags or etag in tags
    since = request.headers.get("if-modified-since")
    if since is None or modified is None:
        return False
    try:
        return parsedate_to_datetime(modified) <= _utc(parsedate_to_datetime(since))
    except (ValueError, TypeError, OverflowError):  # an invalid date is ignored, as the RFC demands
        return False


def _utc(date: datetime) -> datetime:
    return date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
