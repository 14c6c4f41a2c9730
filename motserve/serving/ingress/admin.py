"""Routes for whoever runs the service; they are not for the public."""

from __future__ import annotations

from fastapi import APIRouter

from motserve.serving.ingress.problems import problem_responses
from motserve.serving.ingress.service import ServiceDependency
from motserve.serving.schemas import ModelDetails, Models, Reloaded, ReloadedModels

router = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.get("/models", summary="Which models do new videos get?", responses=problem_responses(503))
async def get_models(service: ServiceDependency) -> Models:
    """Return the models that are current."""
    return await service.models()


@router.post("/reload", summary="Take newly promoted models", responses=problem_responses(409, 503))
async def reload_models(service: ServiceDependency) -> ReloadedModels:
    """Ask the registry what its aliases stand for now, and give new videos those models once they are loaded.

    Where a model cannot be loaded or does not fit, everything stays as it is.
    """
    changes = await service.reloader.reload()
    return ReloadedModels(
        **{
            role: Reloaded(
                changed=change.changed,
                before=ModelDetails(**change.before.weights),
                now=ModelDetails(**change.now.weights),
            )
            for role, change in changes.items()
        }
    )
