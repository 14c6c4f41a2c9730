"""The service's own observability: progress, metrics, traces, and the context of each request."""

from motserve.serving.observability.metrics import STALE, Ending, VideoGauges
from motserve.serving.observability.progress import Progress
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.observability.tracing import Tracing

__all__ = ["STALE", "Ending", "Progress", "RequestContext", "Telemetry", "Tracing", "VideoGauges"]
