"""Brings a newly promoted model to the service that runs: loaded and looked at first, then given to new videos."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from motserve.config import Config
from motserve.config.base import Role
from motserve.errors import Conflict, MotserveError, NotReady
from motserve.models.weights import is_alias, pin_weights, shown_name
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.model_cache import Names
from motserve.serving.inference.replica import ModelInfo
from motserve.serving.periodic import repeating

logger = logging.getLogger("motserve.models")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one model.

    Attributes:
        before: What new videos got.
        now: What they get.
        changed: Whether it is another one.
    """

    before: ModelInfo
    now: ModelInfo
    changed: bool


class Reloader:
    """Compares what is served with what the registry says now. Any ingress replica may do it, at any time.

    Args:
        config: The configuration.
        served: What is served.
        handles: The deployments by role.
        pin: Tells which exact weights the configuration means now.
    """

    def __init__(
        self,
        config: Config,
        served: ActiveModels,
        handles: Mapping[Role, Any],
        pin: Callable[[Role, Config], Names] = pin_weights,
    ) -> None:
        self._config = config
        self._served = served
        self._handles = handles
        self._pin = pin
        self._one_at_a_time = asyncio.Lock()
        self.roles: tuple[Role, ...] = ("detector", "reid") if config.needs_embeddings else ("detector",)

    def names(self, role: Role) -> Names:
        """Return the names of what new videos get."""
        return self._served.names(role, self._config, self._pin)

    async def info(self, role: Role, timeout_s: float) -> ModelInfo:
        """Return what new videos get.

        Raises:
            Exception: No replica answers in time.
        """
        return await self._ask(role, await asyncio.to_thread(self.names, role), timeout_s)

    async def reload(self) -> dict[Role, Change]:
        """Make what the registry says now current, for all roles or for none.

        Raises:
            NotReady: The registry does not answer, or no replica has loaded a model in time.
            Conflict: A model does not fit the configuration, or is not the one that was promoted.
            WeightsUnavailable: A model cannot be had or read.
        """
        async with self._one_at_a_time:
            changes: dict[Role, Change] = {}
            names: dict[Role, tuple[Names, Names]] = {}
            for role in self.roles:
                before = await asyncio.to_thread(self.names, role)
                wanted = await asyncio.to_thread(self._pin, role, self._config)
                _check_answer(role, before, wanted)
                old = new = await self._load(role, before)
                if wanted != before:
                    new = await self._load(role, wanted)
                    _check(role, new, before, wanted)
                changes[role], names[role] = Change(old, new, wanted != before), (before, wanted)
            for role, change in changes.items():
                if change.changed:
                    await asyncio.to_thread(self._served.change, role, *names[role])
                    extra = {"role": role, "before": change.before.weights, "now": change.now.weights}
                    logger.info("new videos get another model", extra=extra)
            return changes

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[None]:
        """Reload now and then while the context is open, if the configuration says so."""
        if not self._config.serving.reload.poll_s:
            yield
            return
        poll_s = self._config.serving.reload.poll_s
        async with repeating(self.reload, poll_s, logger, "the models stay as they are"):
            yield

    async def _load(self, role: Role, names: Names) -> ModelInfo:
        limit = self._config.serving.reload.load_timeout_s
        try:
            return await self._ask(role, names, limit)
        except RayTaskError as error:  # first: it is also of the class of its cause, whichever that is
            cause = error.cause
            said = str(cause) if isinstance(cause, MotserveError) else f"{type(cause).__name__}: {cause}"
            raise Conflict(f"{role} {names[0]} does not serve, everything stays as it is: {said}") from error
        except asyncio.TimeoutError as error:
            raise NotReady(f"{role} {names[0]} was not loaded within {limit:g} s") from error
        except RayActorError as error:
            raise NotReady(f"the {role} died while it loaded {names[0]} ({type(error).__name__})") from error

    async def _ask(self, role: Role, names: Names, timeout_s: float) -> ModelInfo:
        info: ModelInfo = await asyncio.wait_for(self._handles[role].info.remote(names), timeout_s)
        return info


def _check_answer(role: Role, before: Names, wanted: Names) -> None:
    """Refuse names of which the registry does not say any more what they stand for.

    Raises:
        NotReady: There is one.
    """
    for old, new in zip(before, wanted, strict=True):
        if new != old and is_alias(new):
            raise NotReady(f"the registry does not say which {role} {new} is now; everything stays as it is")


def _check(role: Role, loaded: ModelInfo, before: Names, wanted: Names) -> None:
    """Refuse a model that was loaded in place of the one that was promoted.

    Raises:
        Conflict: It is such a one.
    """
    promoted = [index for index, name in enumerate(wanted) if name not in before]
    # an alias that the registry did not know before either is loaded as what it was remembered to be
    places = [index for index, name in enumerate(wanted) if shown_name(name) == loaded.weights["name"]]
    if promoted and places and places[0] > promoted[0]:
        raise Conflict(
            f"{role} {wanted[promoted[0]]} does not serve, and in its place {loaded.weights['name']} was loaded; "
            f"everything stays as it is: {loaded.weights['fallback']}"
        )
