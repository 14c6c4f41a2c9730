"""OpenAPI links: which values of a response are the arguments of other requests."""

from __future__ import annotations

from typing import Any, Final

_BODY: Final = "$response.body#/"


def _link(operation: str, body: dict[str, Any] | None = None, **parameters: str) -> dict[str, Any]:
    arguments = {name: _BODY + value for name, value in parameters.items()}
    return {"operationId": operation, "parameters": arguments, **({"requestBody": body} if body else {})}


def _of_video(pointer: str) -> dict[str, Any]:
    """Return the links to all requests about a video.

    Args:
        pointer: JSON pointer to its ID.
    """
    operations = ("get_video", "get_tracks", "get_annotated", "retry_video", "delete_video")
    search = _link("search", {"video_id": f"{{{_BODY}{pointer}}}", "identity": 1})
    return {**{name: _link(name, video_id=pointer) for name in operations}, "search": search}


def _of_identity(pointer: str) -> dict[str, Any]:
    return {name: _link(name, identity_id=pointer) for name in ("get_identity", "get_thumbnail")}


VIDEO: Final = _of_video("id")
VIDEOS: Final = {"list_videos": _link("list_videos", after="next"), **_of_video("videos/0/id")}
MATCHES: Final = {
    **_of_identity("matches/0/id"),
    "get_video": _link("get_video", video_id="matches/0/video_id"),
    "get_queried_identity": _link("get_identity", identity_id="query/id"),
}
IDENTITY: Final = {**_of_identity("id"), "get_video": _link("get_video", video_id="video_id")}
