"""Spans of a request through the service, sent to an OTLP collector. Without a configured collector there are none.

Each process has one `Tracing`. No global tracer is set, so other tracing in the process is not affected.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Literal, TypeAlias

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from motserve.config import TracingConfig
from motserve.models.extras import import_extra
from motserve.serving.inference.batching import Pass

Kind: TypeAlias = Literal["internal", "server", "client"]

_KINDS: Final = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
}
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class Tracing:
    """Makes the spans of one process.

    Args:
        config: The collector's endpoint, and the share of requests to trace.
        service: Service name of the process, such as `motserve-detector`.
        exporter: Receives the spans in place of a collector.

    Raises:
        InvalidConfig: An endpoint is configured, but the OTLP library is not installed.
    """

    def __init__(self, config: TracingConfig, service: str, exporter: SpanExporter | None = None) -> None:
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer = trace.NoOpTracer()
        if exporter is None and config.endpoint is not None:
            exporter = otlp_exporter(config.endpoint, config.timeout_s)
        if exporter is not None:
            sampler = ParentBased(TraceIdRatioBased(config.sample_ratio))
            resource = Resource.create({SERVICE_NAME: service})
            self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
            self._tracer = self._provider.get_tracer("motserve")

    @property
    def on(self) -> bool:
        """Whether spans are made."""
        return self._provider is not None

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        parent: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[trace.Span]:
        """Return a context manager that is a span; spans started inside it, also in its tasks, are its children.

        Args:
            name: Name of the span.
            kind: `server` for a request from another process, `client` for a request to one.
            parent: Headers of the parent span in another process; None for the current span.
            attributes: Attributes of the span.
        """
        if self._provider is None:
            return nullcontext(trace.INVALID_SPAN)
        context = None if parent is None else _PROPAGATOR.extract(dict(parent))
        return self._tracer.start_as_current_span(name, context, _KINDS[kind], attributes)

    def start_child(self, name: str) -> trace.Span:
        """Start a child of the current span. It may be a parent (see `child_of`); the caller calls its `end`."""
        return self._tracer.start_span(name)

    @contextmanager
    def child_of(self, span: trace.Span, name: str, kind: Kind = "internal") -> Iterator[None]:
        """Return a context manager that is a child of a span other than the current one."""
        if self._provider is None:
            yield
            return
        with self._tracer.start_as_current_span(name, trace.set_span_in_context(span), _KINDS[kind]):
            yield

    def headers(self) -> dict[str, str]:
        """Return the W3C Trace Context headers of the current span; empty if there is none."""
        carrier: dict[str, str] = {}
        if self._provider is not None:
            _PROPAGATOR.inject(carrier)
        return carrier

    def record_pass(self, name: str, done: Pass) -> None:
        """Record the spans of one run of a model that has just ended.

        Each request gets a span `queue` for its time in the queue. The run is a child of the first request and has
        links to all requests in its batch; each of the others has a link to the run.
        """
        if self._provider is None:
            return
        requests = [context.run(trace.get_current_span) for context in done.contexts]
        traced = [span for span in requests if span.is_recording()]
        if not traced:
            return
        ended = time.time_ns()
        began = ended - int(done.seconds * 1e9)
        for span, waited in zip(requests, done.waited_s, strict=False):
            if span.is_recording():
                arrived = began - int(waited * 1e9)
                self._tracer.start_span("queue", trace.set_span_in_context(span), start_time=arrived).end(began)
        run = self._tracer.start_span(
            name,
            trace.set_span_in_context(traced[0]),
            attributes={"items": done.items, "requests": len(requests)},
            links=[trace.Link(span.get_span_context()) for span in traced],
            start_time=began,
        )
        for span in traced[1:]:
            span.add_link(run.get_span_context())
        run.end(ended)

    def flush(self) -> None:
        """Send all ended spans and wait until they are sent; for processes that are about to exit."""
        if self._provider is not None:
            self._provider.force_flush()


def otlp_exporter(endpoint: str, timeout_s: float) -> SpanExporter:
    """Return an exporter that posts spans to a URL.

    Raises:
        InvalidConfig: The OTLP library is not installed.
    """
    module = import_extra(_EXPORTER, "tracing", "serving.tracing.endpoint")
    exporter: SpanExporter = module.OTLPSpanExporter(endpoint=endpoint, timeout=timeout_s)
    return exporter
