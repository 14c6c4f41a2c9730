"""Request batching that never waits: whenever the model is free it takes all that has arrived, up to a maximum.

A batcher with a timer cuts batches while the model is busy, and they then queue up small. Here requests pile up while
the model works, so the batch grows with the load by itself and an idle model answers at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
logger = logging.getLogger("motserve.batching")


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the model.

    Attributes:
        items: How many items it answered.
        seconds: How long the model worked, and how long the items were on their way to its thread.
        waited_s: Seconds from the arrival of each request to this run; of those alone that begin with it.
        contexts: The contexts that the requests were made in.
    """

    items: int
    seconds: float
    waited_s: Sequence[float]
    contexts: Sequence[Context]


@dataclass(frozen=True, slots=True)
class _Request(Generic[Item, Answer]):
    items: Sequence[Item]
    answer: asyncio.Future[list[Answer]]
    context: Context = field(default_factory=copy_context)
    arrived: float = field(default_factory=time.perf_counter)


class GreedyBatcher(Generic[Item, Answer]):
    """Merges requests of several items each into batches for a model that runs in a thread of its own.

    Args:
        model: Answers a batch with one answer for each item; called from one thread, one batch at a time.
        max_batch: Most items in a batch. A request that is larger by itself is cut into several.
        observe: Called with each run of the model that gave answers.
    """

    def __init__(
        self, model: Callable[[list[Item]], Sequence[Answer]], max_batch: int, observe: Callable[[Pass], None]
    ) -> None:
        self._model = model
        self._max_batch = max_batch
        self._observe = observe
        self._waiting: deque[_Request[Item, Answer]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> list[Answer]:
        """Return one answer for each item, in order.

        Raises:
            Exception: Whatever the model raises for these items; requests that shared the batch are run again alone.
        """
        if not items:
            return []
        request = _Request(items, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._worker is None or self._worker.done():
            # in a context of its own: the task outlives this request and works for others
            self._worker = Context().run(asyncio.create_task, self._work())
        return await request.answer

    async def _work(self) -> None:
        while self._waiting:
            batch = self._take()
            if not batch:
                continue
            try:
                answers = await self._run(batch, first=True)
            except Exception as error:
                if len(batch) == 1:
                    _settle(batch[0], error)
                else:
                    await self._run_alone(batch)
                continue
            start = 0
            for request in batch:
                _settle(request, answers[start : start + len(request.items)])
                start += len(request.items)

    def _take(self) -> list[_Request[Item, Answer]]:
        """Take waiting requests in order of arrival while they fit; those nobody waits for any more are dropped."""
        batch: list[_Request[Item, Answer]] = []
        size = 0
        while self._waiting:
            request = self._waiting[0]
            if not request.answer.done():
                if batch and size + len(request.items) > self._max_batch:
                    break
                batch.append(request)
                size += len(request.items)
            self._waiting.popleft()
        return batch

    async def _run(self, batch: list[_Request[Item, Answer]], first: bool) -> list[Answer]:
        """Run the model on what a batch holds. `first` says that its requests have waited until now."""
        loop = asyncio.get_running_loop()
        items = [item for request in batch for item in request.items]
        contexts = [request.context for request in batch]
        answers: list[Answer] = []
        for start in range(0, len(items), self._max_batch):
            part = items[start : start + self._max_batch]
            began = time.perf_counter()
            answered = await loop.run_in_executor(self._thread, self._model, part)
            if len(answered) != len(part):
                raise RuntimeError(f"the model gave {len(answered)} answers to {len(part)} items")
            answers.extend(answered)
            waited = [began - request.arrived for request in batch] if first and not start else []
            self._observe(Pass(len(part), time.perf_counter() - began, waited, contexts))
        return answers

    async def _run_alone(self, batch: list[_Request[Item, Answer]]) -> None:
        """One bad request must not fail its neighbours."""
        for request in batch:
            try:
                answers = await self._run([request], first=False)
            except Exception as error:
                _settle(request, error)
            else:
                _settle(request, answers)


def _settle(request: _Request[Item, Answer], outcome: list[Answer] | Exception) -> None:
    if request.answer.done():
        return
    if isinstance(outcome, Exception):
        # the context names the request and the video, which nothing else here knows
        request.context.run(logger.error, "the model failed for a request of %d items: %s", len(request.items), outcome)
        request.answer.set_exception(outcome)
    else:
        request.answer.set_result(outcome)
