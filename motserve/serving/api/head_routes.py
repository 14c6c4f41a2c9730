"""HEAD for every GET route, which FastAPI does not add by itself, and the value of the `Allow` header."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.routing import Match

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def head_routes(routers: Iterable[APIRouter]) -> APIRouter:
    """Return a HEAD route for each GET route; it calls the same function, so that the headers are equal.

    The server drops the body. A function whose body is expensive checks the method of the request. The routes are left
    out of the OpenAPI schema, which would list each operation twice.

    Args:
        routers: The routers with the GET routes.
    """
    heads = APIRouter()
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            heads.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                response_model=route.response_model,
                response_class=route.response_class,
                status_code=route.status_code,
                dependencies=route.dependencies,
                include_in_schema=False,
            )
    return heads


def allowed_methods(request: Request) -> str:
    """Return the value of `Allow` for a path. FastAPI itself names only the methods of the first matching route."""
    routes, scope = request.app.routes, request.scope
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    )
