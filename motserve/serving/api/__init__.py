"""The HTTP side of the service: a router for each resource, one place where errors become statuses."""

from motserve.serving.api.deployment import Ingress, build_http
from motserve.serving.api.service import Service

__all__ = ["Ingress", "Service", "build_http"]
