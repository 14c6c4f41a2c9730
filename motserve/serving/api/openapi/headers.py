"""The headers of requests and responses in the OpenAPI document, and references to shared schemas."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

Headers = dict[str, dict[str, Any]]


def _header(description: str, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", **_header(description)}


def reference(model: type[BaseModel]) -> dict[str, Any]:
    """Return the reference to the schema of a model that the document holds once; see `document.complete`."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


REQUEST_ID: Final = _header("ID of the request, in all log lines about it.", required=True)
LOCATION: Final = {"Location": _header("Path of the video.", required=True, pattern="^/v1/videos/[0-9a-f]{32}$")}
VALIDATORS: Final = {
    "ETag": _header("Version of the body; tracks have one once the video is done."),
    "Last-Modified": _header("Time of the last change."),
}
DISPOSITION: Final = {"Content-Disposition": _header("File name of the tracks.", required=True)}
ETAG: Final = {"ETag": VALIDATORS["ETag"]}
CONTENT_RANGE: Final = {"Content-Range": _header("The part of the file, or its size in bytes.", required=True)}

IF_NONE_MATCH: Final = _parameter("If-None-Match", "`ETag` of the client's copy; 304 if it is current.")
IF_MODIFIED_SINCE: Final = _parameter(
    "If-Modified-Since", "`Last-Modified` of the client's copy; 304 if it is current."
)
RANGE: Final = (
    _parameter("Range", "Parts of the file, as `bytes=0-999`. An invalid value is ignored."),
    _parameter("If-Range", "`ETag` or `Last-Modified` of the file that `Range` is meant for."),
)

OF_STATUS: Final[dict[int, Headers]] = {
    401: {"WWW-Authenticate": _header("The kind of token.", required=True, const="Bearer")},
    416: CONTENT_RANGE,
    503: {"Retry-After": _header("Seconds after which the client can try again.", pattern="^[0-9]+$")},
}
"""Headers of the problem of a status."""
