from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from motserve.serving.inference.batching import GreedyBatcher, Pass


class Model:
    """Doubles numbers; while the gate is closed it stays in its first batch."""

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
    """Make requests while the model works on a first one, which is the first task of the answer."""
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


def test_what_waits_is_merged_in_order_up_to_the_maximum() -> None:
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


def test_a_request_larger_than_the_maximum_is_cut() -> None:
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


def test_a_bad_request_fails_alone() -> None:
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


def test_a_single_bad_request_is_run_once() -> None:
    async def test() -> None:
        model = Model(gate_open=True)
        batcher = GreedyBatcher(model, 8, ignore)
        with pytest.raises(ValueError, match="cannot double"):
            await batcher.submit([-1])
        assert model.batches == [[-1]]

    run(test)


def test_a_cancelled_caller_is_dropped_while_it_waits() -> None:
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


def test_a_caller_cancelled_while_the_model_works_disturbs_nobody() -> None:
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


def test_all_waiting_callers_may_be_cancelled() -> None:
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


def test_a_model_that_answers_too_little_is_found_out() -> None:
    async def test() -> None:
        batcher: GreedyBatcher[int, int] = GreedyBatcher(lambda items: items[1:], 8, ignore)
        with pytest.raises(RuntimeError, match="1 answers to 2 items"):
            await batcher.submit([1, 2])

    run(test)


def test_nothing_asked_is_nothing_answered() -> None:
    async def test() -> None:
        model = Model()
        assert await GreedyBatcher(model, 8, ignore).submit([]) == []
        assert not model.batches

    run(test)
