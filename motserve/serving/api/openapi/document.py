"""Completes the OpenAPI document of the service."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from motserve.serving.api.openapi.headers import REQUEST_ID
from motserve.serving.api.openapi.tracks import TrackedVideo
from motserve.serving.api.schemas import IdentitySearch, Problem, VideoUrl

_MODELS = (IdentitySearch, Problem, TrackedVideo, VideoUrl)
_REQUEST_ID = {"$ref": "#/components/headers/RequestId"}


def complete(document: dict[str, Any], has_token: bool) -> dict[str, Any]:
    """Add to an OpenAPI document what holds for all routes.

    Args:
        document: The document that FastAPI makes; it is changed.
        has_token: Whether the service has an admin token. Without one, no route requires it.

    Returns:
        The document with the schemas that `reference` names, and `X-Request-ID` in every response.
    """
    components = document["components"]
    models = [(model, "validation") for model in _MODELS]
    template = "#/components/schemas/{model}"
    components["schemas"] |= models_json_schema(models, ref_template=template)[1]["$defs"]  # type: ignore[arg-type]
    components["headers"] = {"RequestId": REQUEST_ID}
    if not has_token:
        components.pop("securitySchemes", None)
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        if not has_token:
            operation.pop("security", None)
        for response in operation["responses"].values():
            response["headers"] = {**response.get("headers", {}), "X-Request-ID": _REQUEST_ID}
    return document
