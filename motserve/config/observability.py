"""The sections of the configuration for metrics and traces of the service."""

from __future__ import annotations

from pydantic import Field, field_validator

from motserve.config.base import Section


class MetricsConfig(Section):
    """Metrics for Prometheus."""

    per_video: bool = Field(
        True,
        description="Whether each running video has its own gauges, with its ID as a label. They end with the video, "
        "but Prometheus stores every label value: set it to false for thousands of videos a day.",
    )
    refresh_s: float = Field(
        5.0,
        ge=0.5,
        le=10.0,
        description="Seconds between two updates of gauges. Ray drops a gauge that was not set for 20 s.",
    )
    cpus: float = Field(0.05, ge=0, le=1024, description="CPUs that Ray reserves for the metrics collector.")


class TracingConfig(Section):
    """Traces of requests, sent by OTLP over HTTP. Needs the extra `tracing`."""

    endpoint: str | None = Field(
        None, description="URL that spans are sent to, such as `http://collector:4318/v1/traces`; null for no traces."
    )
    sample_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of requests that are traced. For a request with a `traceparent` header, its sampled flag "
        "decides.",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Timeout in seconds of sending spans to the collector.")

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{endpoint!r} is not an http:// or https:// URL")
        return endpoint
