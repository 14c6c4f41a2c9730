"""Activates a newly promoted model without a restart: it is loaded and checked first, then new videos get it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from ray.exceptions import RayActorError, RayTaskError

from motserve.config import Config
from motserve.config.base import Role
from motserve.errors import Conflict, MotserveError, NotReady
from motserve.models.weights import is_alias, pin_weights, shown_name
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import Backends, ModelInfo, Names
from motserve.serving.periodic import repeating

logger = logging.getLogger("motserve.models")

_UNCHANGED: Final = "the active models are unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """The result of a reload for one model.

    Attributes:
        before: The active model before the reload.
        now: The active model after it.
        changed: Whether the two differ.
    """

    before: ModelInfo
    now: ModelInfo
    changed: bool


class Reloader:
    """Compares the active models with the registry and activates newer ones; every ingress replica may do so.

    Args:
        config: The configuration.
        active_models: The models that new videos get.
        backends: The deployments.
        pin: Resolves the weights of the configuration to exact versions.
    """

    def __init__(
        self,
        config: Config,
        active_models: ActiveModels,
        backends: Backends,
        pin: Callable[[Role, Config], Names] = pin_weights,
    ) -> None:
        self._config = config
        self._active_models = active_models
        self._backends = backends
        self._pin = pin
        self._one_at_a_time = asyncio.Lock()
        self.roles: tuple[Role, ...] = ("detector", "reid") if config.needs_embeddings else ("detector",)

    def names(self, role: Role) -> Names:
        """Return the weights that new videos get."""
        return self._active_models.names(role, self._config, self._pin)

    async def info(self, role: Role, timeout_s: float) -> ModelInfo:
        """Return the model that new videos get.

        Raises:
            Exception: No replica answers in time.
        """
        return await self._ask(role, await asyncio.to_thread(self.names, role), timeout_s)

    async def reload(self) -> dict[Role, Change]:
        """Activate the models that the registry names now, for all roles or for none.

        Raises:
            NotReady: The registry does not answer, or no replica has loaded a model in time.
            Conflict: A model does not fit the configuration, or is not the one that was promoted.
            WeightsUnavailable: A model is missing or cannot be read.
        """
        async with self._one_at_a_time:
            changes: dict[Role, Change] = {}
            names: dict[Role, tuple[Names, Names]] = {}
            for role in self.roles:
                before = await asyncio.to_thread(self.names, role)
                promoted = await asyncio.to_thread(self._pin, role, self._config)
                _check_resolved(role, before, promoted)
                old = new = await self._load(role, before)
                if promoted != before:
                    new = await self._load(role, promoted)
                    _check_loaded(role, new, before, promoted)
                changes[role], names[role] = Change(old, new, promoted != before), (before, promoted)
            for role, change in changes.items():
                if change.changed:
                    await asyncio.to_thread(self._active_models.change, role, *names[role])
                    extra = {"role": role, "before": change.before.weights, "now": change.now.weights}
                    logger.info("active model changed", extra=extra)
            return changes

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[None]:
        """Reload every `serving.reload.poll_s` seconds while the context is open; never if that is 0."""
        if not self._config.serving.reload.poll_s:
            yield
            return
        poll_s = self._config.serving.reload.poll_s
        async with repeating(self.reload, poll_s, logger, "model reload failed, the active models are unchanged"):
            yield

    async def _load(self, role: Role, names: Names) -> ModelInfo:
        limit = self._config.serving.reload.load_timeout_s
        try:
            return await self._ask(role, names, limit)
        except RayTaskError as error:  # first: it is also an instance of the class of its cause
            cause = error.cause
            reason = str(cause) if isinstance(cause, MotserveError) else f"{type(cause).__name__}: {cause}"
            raise Conflict(f"{role} {names[0]} failed to load, {_UNCHANGED}: {reason}") from error
        except asyncio.TimeoutError as error:
            raise NotReady(f"{role} {names[0]} was not loaded within {limit:g} s") from error
        except RayActorError as error:
            raise NotReady(f"the {role} replica died while it loaded {names[0]} ({type(error).__name__})") from error

    async def _ask(self, role: Role, names: Names, timeout_s: float) -> ModelInfo:
        info: ModelInfo = await asyncio.wait_for(self._backends.model(role).info.remote(names), timeout_s)
        return info


def _check_resolved(role: Role, before: Names, promoted: Names) -> None:
    """Refuse an alias that the registry no longer resolves to a version.

    Raises:
        NotReady: There is one.
    """
    for old, new in zip(before, promoted, strict=True):
        if new != old and is_alias(new):
            raise NotReady(f"the registry does not resolve {role} {new} to a version; {_UNCHANGED}")


def _check_loaded(role: Role, loaded: ModelInfo, before: Names, promoted: Names) -> None:
    """Refuse fallback weights that were loaded instead of the promoted ones.

    Raises:
        Conflict: The loaded weights are a fallback.
    """
    new = [index for index, name in enumerate(promoted) if name not in before]
    # an alias that the registry did not resolve before either is loaded as the version that it had last
    loaded_at = [index for index, name in enumerate(promoted) if shown_name(name) == loaded.weights["name"]]
    if new and loaded_at and loaded_at[0] > new[0]:
        raise Conflict(
            f"{role} {promoted[new[0]]} failed to load, and its fallback {loaded.weights['name']} was loaded instead; "
            f"{_UNCHANGED}: {loaded.weights['fallback']}"
        )
