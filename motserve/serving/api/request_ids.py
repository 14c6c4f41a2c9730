"""Assigns an ID to every HTTP request and, if tracing is on, a span."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from motserve.serving.observability.request_context import RequestContext, request_id_of
from motserve.serving.observability.tracing import Tracing

_REQUEST_ID: Final = "x-request-id"
_TRACE: Final = ("traceparent", "tracestate")


class RequestObserver:
    """ASGI middleware: adds the request ID to log lines and to the response, and starts a span.

    Args:
        app: The wrapped application.
        tracing: Creates the span.
        proxied: Whether a proxy in front copies the request's own ID to the response.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing, proxied: bool) -> None:
        self._app = app
        self._tracing = tracing
        self._proxied = proxied

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client_id = headers.get(_REQUEST_ID)
        request_id = request_id_of(client_id)
        parent = {name: headers[name] for name in _TRACE if name in headers}
        method, path = scope["method"], scope["path"]
        attributes = {"http.request.method": method, "url.path": path, "request_id": request_id}
        span = self._tracing.span(method, "server", parent, attributes)
        with RequestContext(request_id).logged(), span as current:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    current.set_attribute("http.response.status_code", message["status"])
                    if (route := getattr(scope.get("route"), "path", None)) is not None:  # None if no route matched
                        current.update_name(f"{method} {route}")
                    if not (self._proxied and request_id == client_id):
                        MutableHeaders(scope=message)[_REQUEST_ID] = request_id
                await send(message)

            await self._app(scope, receive, answer)
