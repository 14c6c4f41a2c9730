"""A collector of traces with OTLP over HTTP, in a thread of the test."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Collects posted spans, as pairs of service name and span."""

    def __init__(self) -> None:
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
        self.spans: list[tuple[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for group in request.resource_spans:
                    (name,) = (a.value.string_value for a in group.resource.attributes if a.key == "service.name")
                    collector.spans += [(name, span) for scope in group.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *values: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, trace: str) -> list[tuple[str, Any]]:
        return [(name, span) for name, span in list(self.spans) if span.trace_id.hex() == trace]

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
