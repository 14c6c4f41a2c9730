"""Routes that tell whether the service is alive and ready."""

from __future__ import annotations

from fastapi import APIRouter

from motserve.serving.api.problems import problem_responses
from motserve.serving.api.schemas import Health
from motserve.serving.api.service import ServiceDependency

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the ingress alive?")
async def healthz() -> Health:
    """Answer as long as this replica runs."""
    return Health()


@router.get("/readyz", summary="Are the models loaded?", responses=problem_responses(503))
async def readyz(service: ServiceDependency) -> Health:
    """Answer once detector and embedder do, and say which weights they have."""
    return Health(models=await service.models())
