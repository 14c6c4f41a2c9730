"""Request batching without a timer: whenever the model is idle, it runs all queued requests, up to a maximum.

A timer closes small batches even while the model is busy. Here requests queue up while the model runs, so that the
batch size grows with the load and an idle model answers at once.
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
        items: Number of items in the batch.
        seconds: Duration of the run, including the handover to the model's thread.
        waited_s: Seconds that each request waited for this run; only of requests that start with it.
        contexts: The context of each request.
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
    """Merges requests of one or more items into batches for a model that runs in its own thread.

    Args:
        model: Returns one answer for each item of a batch; called from one thread, one batch at a time.
        max_batch: Most items in a batch. Higher values raise throughput and need more memory. A larger request is
            split.
        observe: Called after each successful run of the model.
    """

    def __init__(
        self, model: Callable[[list[Item]], Sequence[Answer]], max_batch: int, observe: Callable[[Pass], None]
    ) -> None:
        self._model = model
        self._max_batch = max_batch
        self._observe = observe
        self._queue: deque[_Request[Item, Answer]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> list[Answer]:
        """Return one answer for each item, in order.

        Raises:
            Exception: Any error of the model for these items. Requests of a batch that failed are run again one by one.
        """
        if not items:
            return []
        request = _Request(items, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        if self._worker is None or self._worker.done():
            # in a new context: the task outlives this request and serves others
            self._worker = Context().run(asyncio.create_task, self._work())
        return await request.answer

    async def _work(self) -> None:
        while batch := self._next_batch():
            try:
                answers = await self._run(batch, first=True)
            except Exception as error:
                if len(batch) == 1:
                    _resolve(batch[0], error)
                else:
                    await self._run_alone(batch)
                continue
            start = 0
            for request in batch:
                _resolve(request, answers[start : start + len(request.items)])
                start += len(request.items)

    def _next_batch(self) -> list[_Request[Item, Answer]]:
        """Take queued requests in order of arrival while they fit into a batch; cancelled ones are dropped."""
        batch: list[_Request[Item, Answer]] = []
        size = 0
        while self._queue:
            request = self._queue[0]
            if not request.answer.done():
                if batch and size + len(request.items) > self._max_batch:
                    break
                batch.append(request)
                size += len(request.items)
            self._queue.popleft()
        return batch

    async def _run(self, batch: list[_Request[Item, Answer]], first: bool) -> list[Answer]:
        """Run the model on the items of a batch. `first`: the requests were not run before."""
        loop = asyncio.get_running_loop()
        items = [item for request in batch for item in request.items]
        contexts = [request.context for request in batch]
        answers: list[Answer] = []
        for start in range(0, len(items), self._max_batch):
            chunk = items[start : start + self._max_batch]
            began = time.perf_counter()
            chunk_answers = await loop.run_in_executor(self._thread, self._model, chunk)
            if len(chunk_answers) != len(chunk):
                raise RuntimeError(f"the model gave {len(chunk_answers)} answers to {len(chunk)} items")
            answers.extend(chunk_answers)
            waited = [began - request.arrived for request in batch] if first and not start else []
            self._report(Pass(len(chunk), time.perf_counter() - began, waited, contexts))
        return answers

    def _report(self, done: Pass) -> None:
        try:
            self._observe(done)
        except Exception:  # the answers are computed; metrics are no reason to lose them
            logger.exception("a run of the model could not be recorded")

    async def _run_alone(self, batch: list[_Request[Item, Answer]]) -> None:
        """Run each request by itself, so that an invalid one does not fail the others."""
        for request in batch:
            try:
                answers = await self._run([request], first=False)
            except Exception as error:
                _resolve(request, error)
            else:
                _resolve(request, answers)


def _resolve(request: _Request[Item, Answer], outcome: list[Answer] | Exception) -> None:
    if request.answer.done():
        return
    if isinstance(outcome, Exception):
        # the context of the request adds the IDs of request and video to the log line
        request.context.run(logger.error, "the model failed for a request of %d items: %s", len(request.items), outcome)
        request.answer.set_exception(outcome)
    else:
        request.answer.set_result(outcome)
