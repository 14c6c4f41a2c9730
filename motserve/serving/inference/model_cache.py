"""The models loaded in a replica: the active one, and those that running videos started with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from motserve.serving.inference.backends import Names

Model = TypeVar("Model")
logger = logging.getLogger("motserve.models")


class ModelCache(Generic[Model]):
    """A least-recently-used cache of models, loaded on the first request.

    An evicted model stays in memory until the requests that use it are finished.

    Args:
        role: What the models are for; appears in the log.
        load: Loads a model; called in a thread, while loaded models keep answering.
        max_models: Most models in the cache. Higher values need more memory and load a model again less often.
    """

    def __init__(self, role: str, load: Callable[[Names], Model], max_models: int) -> None:
        self._role = role
        self._load = load
        self._max_models = max_models
        self._models: OrderedDict[Names, Model] = OrderedDict()
        self._loading: dict[Names, asyncio.Task[Model]] = {}

    def put(self, names: Names, model: Model) -> None:
        """Add a model; a full cache evicts the least recently used one."""
        self._models[names] = model
        self._models.move_to_end(names)
        while len(self._models) > self._max_models:
            evicted, _ = self._models.popitem(last=False)
            logger.info("model evicted from the cache", extra={"role": self._role, "weights": evicted})

    async def get(self, names: Names) -> Model:
        """Return a model, loaded first if it is not cached; concurrent calls wait for the same load.

        Raises:
            Exception: Any error of loading. The next call tries again.
        """
        if names in self._models:
            self._models.move_to_end(names)
            return self._models[names]
        task = self._loading.get(names)
        if task is None:
            task = self._loading[names] = asyncio.create_task(self._fetch(names))
            task.add_done_callback(lambda _: self._loading.pop(names))
        return await asyncio.shield(task)  # the cancellation of one caller must not cancel the others

    async def _fetch(self, names: Names) -> Model:
        started = time.monotonic()
        model = await asyncio.to_thread(self._load, names)
        self.put(names, model)
        extra = {"role": self._role, "weights": names, "seconds": round(time.monotonic() - started, 2)}
        logger.info("model loaded", extra=extra)
        return model
