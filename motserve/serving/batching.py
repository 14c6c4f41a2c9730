"""Request batching that never waits: whenever the model is free it takes all that has arrived, up to a maximum.

A batcher with a timer cuts batches while the model is busy, and they then queue up small. Here requests pile up while
the model works, so the batch grows with the load by itself and an idle model answers at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Request(Generic[Item, Answer]):
    items: Sequence[Item]
    answer: asyncio.Future[list[Answer]]


class GreedyBatcher(Generic[Item, Answer]):
    """Merges requests of several items each into batches for a model that runs in a thread of its own.

    Args:
        model: Answers a batch with one answer for each item; called from one thread, one batch at a time.
        max_batch: Most items in a batch. A request that is larger by itself is cut into several.
        observe: Called with the number of items of each batch that ran.
    """

    def __init__(
        self, model: Callable[[list[Item]], Sequence[Answer]], max_batch: int, observe: Callable[[int], None]
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
            self._worker = asyncio.create_task(self._work())
        return await request.answer

    async def _work(self) -> None:
        while self._waiting:
            batch = self._take()
            if not batch:
                continue
            try:
                answers = await self._run([item for request in batch for item in request.items])
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

    async def _run(self, items: list[Item]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        answers: list[Answer] = []
        for start in range(0, len(items), self._max_batch):
            part = items[start : start + self._max_batch]
            answered = await loop.run_in_executor(self._thread, self._model, part)
            if len(answered) != len(part):
                raise RuntimeError(f"the model gave {len(answered)} answers to {len(part)} items")
            answers.extend(answered)
            self._observe(len(part))
        return answers

    async def _run_alone(self, batch: list[_Request[Item, Answer]]) -> None:
        """One bad request must not fail its neighbours."""
        for request in batch:
            try:
                answers = await self._run(list(request.items))
            except Exception as error:
                _settle(request, error)
            else:
                _settle(request, answers)


def _settle(request: _Request[Item, Answer], outcome: list[Answer] | Exception) -> None:
    if request.answer.done():
        return
    if isinstance(outcome, Exception):
        request.answer.set_exception(outcome)
    else:
        request.answer.set_result(outcome)
