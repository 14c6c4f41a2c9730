"""Routes for operators of the service; they must not be public."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from motserve.errors import Unauthorized
from motserve.serving.api.problems import problem_responses
from motserve.serving.api.schemas import ModelDetails, Models, Reloaded, ReloadedModels
from motserve.serving.api.service import ServiceDependency

_bearer = HTTPBearer(auto_error=False, description="`serving.admin_token`, if the service has one.")


async def _authorized(
    service: ServiceDependency, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Refuse requests without the admin token, if the service has one.

    Raises:
        Unauthorized: The token of the request is missing or wrong.
    """
    expected = service.config.serving.admin_token
    if expected is None:
        return
    token = credentials.credentials if credentials else ""
    if not secrets.compare_digest(token.encode(), expected.get_secret_value().encode()):
        raise Unauthorized("this route requires the token of serving.admin_token: Authorization: Bearer TOKEN")


router = APIRouter(
    prefix="/v1/admin", tags=["admin"], dependencies=[Depends(_authorized)], responses=problem_responses(401)
)


@router.get("/models", summary="Show the active models", responses=problem_responses(503))
async def get_models(service: ServiceDependency) -> Models:
    """Return the active models: those that new videos get."""
    return await service.models()


@router.post("/reload", summary="Activate newly promoted models", responses=problem_responses(409, 503))
async def reload_models(service: ServiceDependency) -> ReloadedModels:
    """Resolve the aliases of the registry again, load the models they name now, and give them to new videos.

    If a model cannot be loaded or does not fit the configuration, the active models are unchanged.
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
