"""Routes for whoever runs the service; they are not for the public."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from motserve.errors import Unauthorized
from motserve.serving.api.problems import problem_responses
from motserve.serving.api.schemas import ModelDetails, Models, Reloaded, ReloadedModels
from motserve.serving.api.service import ServiceDependency

_bearer = HTTPBearer(auto_error=False, description="`serving.admin_token`, where the service has one.")


async def _admitted(
    service: ServiceDependency, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Turn away who has not the token, where the service asks for one.

    Raises:
        Unauthorized: There is no token in the request, or another one.
    """
    wanted = service.config.serving.admin_token
    if wanted is None:
        return
    token = given.credentials if given else ""
    if not secrets.compare_digest(token.encode(), wanted.get_secret_value().encode()):
        raise Unauthorized("this route asks for the token of `serving.admin_token`: Authorization: Bearer TOKEN")


router = APIRouter(
    prefix="/v1/admin", tags=["admin"], dependencies=[Depends(_admitted)], responses=problem_responses(401)
)


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
