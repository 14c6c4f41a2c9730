"""Conditional requests: `If-None-Match`, `If-Modified-Since` and 304 (RFC 9110, section 13)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

from fastapi import Request, Response

from motserve.files.names import to_json

NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "The client's copy is current."}}
"""The OpenAPI description of this response."""

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
