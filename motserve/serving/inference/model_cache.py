"""The models that a replica has at hand: the one that new videos get, and those that running videos began with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

Model = TypeVar("Model")
logger = logging.getLogger("motserve.models")

Names: TypeAlias = tuple[str, ...]
"""Names of weights in order of preference, with exact versions where they are the registry's."""


class ModelCache(Generic[Model]):
    """Loads models when they are asked for and keeps those that were asked for last.

    Whoever has a model keeps it: that it leaves the shelf does not disturb work that is under way.

    Args:
        role: What the models are for, for the log.
        load: Loads one; called in a thread, while the others go on working.
        kept: Most models at hand.
    """

    def __init__(self, role: str, load: Callable[[Names], Model], kept: int) -> None:
        self._role = role
        self._load = load
        self._kept = kept
        self._models: OrderedDict[Names, Model] = OrderedDict()
        self._loading: dict[Names, asyncio.Task[Model]] = {}

    def put(self, names: Names, model: Model) -> None:
        """Put a model on the shelf; where it is full, those that were not asked for longest leave it."""
        self._models[names] = model
        self._models.move_to_end(names)
        while len(self._models) > self._kept:
            put_away, _ = self._models.popitem(last=False)
            logger.info("model put away", extra={"role": self._role, "weights": put_away})

    def peek(self, names: Names) -> Model | None:
        """Return a model that is on the shelf, None where it is not. This is no use of it."""
        return self._models.get(names)

    async def get(self, names: Names) -> Model:
        """Return a model; those who ask while it is being loaded wait for the same one.

        Raises:
            Exception: Whatever loading raises. It is tried again when somebody asks again.
        """
        if names in self._models:
            self._models.move_to_end(names)
            return self._models[names]
        task = self._loading.get(names)
        if task is None:
            task = self._loading[names] = asyncio.create_task(self._fetch(names))
            task.add_done_callback(lambda _: self._loading.pop(names))
        return await asyncio.shield(task)  # one who asks may be cancelled, the others must not be

    async def _fetch(self, names: Names) -> Model:
        started = time.monotonic()
        model = await asyncio.to_thread(self._load, names)
        self.put(names, model)
        extra = {"role": self._role, "weights": names, "seconds": round(time.monotonic() - started, 2)}
        logger.info("model loaded", extra=extra)
        return model
