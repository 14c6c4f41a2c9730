"""Spares a client what it has already: `If-None-Match`, `If-Modified-Since` and 304 (RFC 9110, section 13)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

from fastapi import Request, Response

from motserve.files.names import to_json

NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "The client has it already."}}
"""What OpenAPI says of such an answer."""

_KEPT_HEADERS: Final = ("cache-control", "content-location", "etag", "last-modified", "vary")


def etag_of(*parts: object) -> str:
    """Return a strong validator for what is made of some values.

    Args:
        parts: Everything that the bytes of the answer depend on, as JSON can hold it.
    """
    return f'"{hashlib.sha256(to_json(parts)).hexdigest()[:32]}"'


def http_date(seconds: float) -> str:
    """Return seconds since the epoch as HTTP writes a date."""
    return format_datetime(datetime.fromtimestamp(int(seconds), timezone.utc), usegmt=True)


def unless_known(request: Request, response: Response) -> Response:
    """Return an answer, or 304 in its place where the client says that it has the same.

    Args:
        request: The request, for GET or HEAD.
        response: The answer with its `ETag`, `Last-Modified` or both.
    """
    if not _is_known(request, response.headers.get("etag"), response.headers.get("last-modified")):
        return response
    return Response(None, 304, {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers})


def headers_only(media_type: str, headers: Mapping[str, str]) -> Response:
    """Return the answer to HEAD where the length of what GET would give is not known."""
    response = Response(None, 200, headers, media_type)
    del response.headers["content-length"]  # of nothing, it would say that the thing is empty
    return response


def _is_known(request: Request, etag: str | None, modified: str | None) -> bool:
    given = request.headers.getlist("if-none-match")
    if given:  # then the date does not count
        if etag is None:
            return False
        tags = [tag.strip().removeprefix("W/") for tag in ",".join(given).split(",")]
        return "*" in tags or etag in tags
    since = request.headers.get("if-modified-since")
    if since is None or modified is None:
        return False
    try:
        return parsedate_to_datetime(modified) <= _utc(parsedate_to_datetime(since))
    except (ValueError, TypeError, OverflowError):  # a date that is none is as good as no header
        return False


def _utc(date: datetime) -> datetime:
    return date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
