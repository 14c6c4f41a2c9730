"""Routes of the health checks: liveness and readiness."""

from __future__ import annotations

from fastapi import APIRouter

from motserve.serving.api.problems import problem_responses
from motserve.serving.api.schemas import Health
from motserve.serving.api.service import ServiceDependency

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Liveness check")
async def healthz() -> Health:
    """Return 200 while this ingress replica runs."""
    return Health()


@router.get("/readyz", summary="Readiness check", responses=problem_responses(503))
async def readyz(service: ServiceDependency) -> Health:
    """Return 200 and the active models if the job store accepts changes, and detector and embedder answer; else 503."""
    await service.stores.run(service.jobs.check)
    return Health(models=await service.models())
