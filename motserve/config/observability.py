"""The sections of the configuration that say what a running service tells of itself."""

from __future__ import annotations

from pydantic import Field, field_validator

from motserve.config.base import Section


class MetricsConfig(Section):
    """Metrics that Prometheus reads."""

    per_video: bool = Field(
        True,
        description="Whether each running video has gauges of its own, with its ID as a label. They end with the "
        "video, but Prometheus keeps what it has read: turn it off where there are thousands of videos a day.",
    )
    refresh_s: float = Field(
        5.0,
        ge=0.5,
        le=10.0,
        description="Seconds between two readings of gauges. Ray forgets a gauge that was not set for 20 s.",
    )
    cpus: float = Field(0.05, ge=0, le=1024, description="CPUs that Ray reserves for the replica that counts.")


class TracingConfig(Section):
    """Traces of single requests, sent by OTLP over HTTP. Needs the extra `tracing`."""

    endpoint: str | None = Field(
        None, description="URL that spans are posted to, such as `http://collector:4318/v1/traces`; null for no traces."
    )
    sample_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of requests that are traced. A request that comes with a `traceparent` is traced if that "
        "says so.",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Seconds that the collector may take for a post of spans.")

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{endpoint!r} is no http:// or https:// URL")
        return endpoint
