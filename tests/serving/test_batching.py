from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from motserve.serving.inference.batching import GreedyBatcher, Pass


class Model:
    """Doubles numbers; blocks in its first batch until the gate is open."""

    def __init__(self, gate_open: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.busy = threading.Event()
        self.gate = threading.Event()
        if gate_open:
            self.gate.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.busy.set()
        assert self.gate.wait(60)
        if any(item < 0 for item in items):
            raise ValueError(f"cannot double {min(items)}")
        return [2 * item for item in items]


def ignore(done: Pass) -> None:
    pass


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def while_busy(
    batcher: GreedyBatcher[int, int], model: Model, requests: Sequence[list[int]]
) -> list[asyncio.Task[list[int]]]:
    """Submit requests while the model runs a first one; return all tasks in order."""
    tasks = [asyncio.create_task(batcher.submit([0]))]
    await asyncio.to_thread(model.busy.wait, 60)
    tasks += [asyncio.create_task(batcher.submit(items)) for items in requests]
    await asyncio.sleep(0)
    return tasks


def test_an_idle_model_answers_at_once() -> None:
    async def test() -> None:
        model = Model(gate_open=True)
        sizes: list[int] = []
        batcher = GreedyBatcher(model, 8, lambda done: sizes.append(done.items))
        assert await batcher.submit([1, 2, 3]) == [2, 4, 6]
        assert await batcher.submit([4]) == [8]
        assert model.batches == [[1, 2, 3], [4]]
        assert sizes == [3, 1]

    run(test)


def test_queued_requests_are_merged_in_order_up_to_the_maximum() -> None:
    async def test() -> None:
        model = Model()
        sizes: list[int] = []
        batcher = GreedyBatcher(model, 4, lambda done: sizes.append(done.items))
        tasks = await while_busy(batcher, model, [[1], [2, 3], [4, 5], [6], [7]])
        model.gate.set()
        assert await asyncio.gather(*tasks) == [[0], [2], [4, 6], [8, 10], [12], [14]]
        assert model.batches == [[0], [1, 2, 3], [4, 5, 6, 7]]
        assert sizes == [1, 3, 4]

    run(test)


def test_a_request_larger_than_the_maximum_is_split() -> None:
    async def test() -> None:
        model = Model()
        batcher = GreedyBatcher(model, 3, ignore)
        tasks = await while_busy(batcher, model, [list(range(1, 9)), [9]])
        model.gate.set()
        assert await asyncio.gather(*tasks) == [[0], [2, 4, 6, 8, 10, 12, 14, 16], [18]]
        assert model.batches == [[0], [1, 2, 3], [4, 5, 6], [7, 8], [9]]

    run(test)


def test_no_batch_is_larger_than_the_maximum() -> None:
    async def test() -> None:
        model = Model()
        batcher = GreedyBatcher(model, 5, ignore)
        requests = [[number] * (1 + number % 7) for number in range(40)]
        tasks = await while_busy(batcher, model, requests)
        model.gate.set()
        assert (await asyncio.gather(*tasks))[1:] == [[2 * item for item in items] for items in requests]
        assert max(map(len, model.batches)) == 5

    run(test)


def test_an_invalid_request_does_not_fail_the_others_of_its_batch() -> None:
    async def test() -> None:
        model = Model()
        batcher = GreedyBatcher(model, 8, ignore)
        tasks = await while_busy(batcher, model, [[1], [-1, 2], [3]])
        model.gate.set()
        first, good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, good, other) == ([0], [2], [6])
        assert isinstance(bad, ValueError)
        assert str(bad) == "cannot double -1"
        assert await batcher.submit([5]) == [10]

    run(test)


def test_an_invalid_request_that_is_a_batch_by_itself_is_run_once() -> None:
    async def test() -> None:
        model = Model(gate_open=True)
        batcher = GreedyBatcher(model, 8, ignore)
        with pytest.raises(ValueError, match="cannot double"):
            await batcher.submit([-1])
        assert model.batches == [[-1]]

    run(test)


def test_a_cancelled_request_is_dropped_from_the_queue() -> None:
    async def test() -> None:
        model = Model()
        batcher = GreedyBatcher(model, 8, ignore)
        tasks = await while_busy(batcher, model, [[1], [2], [3]])
        tasks[2].cancel()
        model.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[:2] + answers[3:] == [[0], [2], [6]]
        assert isinstance(answers[2], asyncio.CancelledError)
        assert model.batches == [[0], [1, 3]]

    run(test)


def test_a_request_cancelled_while_the_model_runs_does_not_affect_others() -> None:
    async def test() -> None:
        model = Model()
        batcher = GreedyBatcher(model, 8, ignore)
        tasks = await while_busy(batcher, model, [[1]])
        tasks[0].cancel()
        model.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1] == [2]

    run(test)


def test_all_queued_requests_may_be_cancelled() -> None:
    async def test() -> None:
        model = Model()
        batcher = GreedyBatcher(model, 8, ignore)
        tasks = await while_busy(batcher, model, [[1], [2]])
        for task in tasks[1:]:
            task.cancel()
        model.gate.set()
        assert await tasks[0] == [0]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await batcher.submit([3]) == [6]
        assert model.batches == [[0], [3]]

    run(test)


def test_a_model_that_returns_too_few_answers_is_an_error() -> None:
    async def test() -> None:
        batcher: GreedyBatcher[int, int] = GreedyBatcher(lambda items: items[1:], 8, ignore)
        with pytest.raises(RuntimeError, match="1 answers to 2 items"):
            await batcher.submit([1, 2])

    run(test)


def test_an_empty_request_has_an_empty_answer() -> None:
    async def test() -> None:
        model = Model()
        assert await GreedyBatcher(model, 8, ignore).submit([]) == []
        assert not model.batches

    run(test)
