"""Spans of a request on its way through the service, sent to a collector by OTLP; nothing at all where none is named.

Each process has one `Tracing`. Nothing global is set, so that whatever else the process traces stays as it is.
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
from motserve.models.libraries import import_extra
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
        config: Where spans go.
        service: What the process calls itself, such as `motserve-detector`.
        exporter: Takes the spans in place of a collector.

    Raises:
        InvalidConfig: There is an endpoint, but the library that speaks with it is not installed.
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
        """Whether spans are made at all."""
        return self._provider is not None

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        parent: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[trace.Span]:
        """Return a context that is a span; spans begun in it, and in tasks begun in it, are its children.

        Args:
            name: What is done.
            kind: `server` for what another process asked for, `client` for what another one is asked for.
            parent: Headers of the span in another process that this one belongs to; None for the present span.
            attributes: Attributes of the span.
        """
        if self._provider is None:
            return nullcontext(trace.INVALID_SPAN)
        context = None if parent is None else _PROPAGATOR.extract(dict(parent))
        return self._tracer.start_as_current_span(name, context, _KINDS[kind], attributes)

    def open(self, name: str) -> trace.Span:
        """Begin a child of the present span that others may be told is their parent, and that is ended by its `end`."""
        return self._tracer.start_span(name)

    @contextmanager
    def below(self, span: trace.Span, name: str, kind: Kind = "internal") -> Iterator[None]:
        """Make a context a child of a span that is not the present one."""
        if self._provider is None:
            yield
            return
        with self._tracer.start_as_current_span(name, trace.set_span_in_context(span), _KINDS[kind]):
            yield

    def headers(self) -> dict[str, str]:
        """Return what another process is to be told of the present span; nothing where there is none."""
        carrier: dict[str, str] = {}
        if self._provider is not None:
            _PROPAGATOR.inject(carrier)
        return carrier

    def record_pass(self, name: str, done: Pass) -> None:
        """Make the spans of one run of a model, which has just ended.

        Each request gets a span of the time that it waited. The run itself is the child of the first request, with
        links to all requests that it answered; theirs have a link to the run.
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
        """Send what has ended, and wait for it; for processes that are about to end."""
        if self._provider is not None:
            self._provider.force_flush()


def otlp_exporter(endpoint: str, timeout_s: float) -> SpanExporter:
    """Return what posts spans to a URL.

    Raises:
        InvalidConfig: The library is not installed.
    """
    module = import_extra(_EXPORTER, "tracing", "serving.tracing.endpoint")
    exporter: SpanExporter = module.OTLPSpanExporter(endpoint=endpoint, timeout=timeout_s)
    return exporter
