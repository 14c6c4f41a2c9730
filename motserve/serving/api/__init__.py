"""The HTTP API of the service: one router per resource, and one module that turns errors into HTTP statuses."""

from motserve.serving.api.deployment import Ingress, build_http
from motserve.serving.api.service import Service

__all__ = ["Ingress", "Service", "build_http"]
