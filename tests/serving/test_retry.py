"""Requests of a session to the deployments, without a cluster: what is sent again, and what is a stall."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, ObjectLostError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from motserve.config.serving import SessionConfig
from motserve.errors import NotReady, WeightsUnavailable
from motserve.serving.observability.progress import Progress
from motserve.serving.session.retry import Retry


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def outcome_of(
    outcomes: list[Any], attempts: int = 3, timeout_s: float = 30.0
) -> tuple[Callable[[], Awaitable[Any]], Progress, list[float]]:
    """Return a call whose tries have these outcomes: an error, an answer, or None for no answer."""
    pauses: list[float] = []
    progress = Progress()
    left = iter(outcomes)

    async def request() -> Any:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            await asyncio.Event().wait()
        return outcome

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    retry = Retry(SessionConfig(attempts=attempts, request_timeout_s=timeout_s), progress, sleep)
    return lambda: retry.call(request), progress, pauses


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ActorDiedError(), "a replica died"),
        (NodeDiedError("the node"), "a replica died"),
        (ObjectLostError("0" * 56, None, ""), r"a replica is not available \(ObjectLostError\)"),
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), r"not available \(BackPressureError\)"),
        (DeploymentUnavailableError("Detector"), r"not available \(DeploymentUnavailableError\)"),  # type: ignore[arg-type]
    ],
)
def test_errors_of_a_replica_are_retried_with_growing_pauses(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    call, progress, pauses = outcome_of([error, error, "answer"])
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(call()) == "answer"  # type: ignore[arg-type]
    assert progress.retries == 2
    assert [0.2 <= pauses[0] <= 0.4, 0.4 <= pauses[1] <= 0.8] == [True, True]
    call, _, _ = outcome_of([error] * 3)
    with pytest.raises(NotReady, match=f"{said}, 3 times in a row"):
        asyncio.run(call())  # type: ignore[arg-type]


def test_a_replica_that_does_not_answer_is_asked_again() -> None:
    call, progress, _ = outcome_of([None, "answer"], timeout_s=0.02)
    assert asyncio.run(call()) == "answer"  # type: ignore[arg-type]
    assert progress.retries == 1
    call, _, _ = outcome_of([None], attempts=1, timeout_s=0.02)
    with pytest.raises(NotReady, match=r"did not answer within 0\.02 s, 1 times in a row"):
        asyncio.run(call())  # type: ignore[arg-type]


def test_an_error_of_the_model_is_raised_at_once() -> None:
    error = RayTaskError("infer", "traceback", WeightsUnavailable("no weights"))
    call, progress, _ = outcome_of([error, "answer"])
    with pytest.raises(WeightsUnavailable, match="no weights"):
        asyncio.run(call())  # type: ignore[arg-type]
    assert progress.retries == 0


def test_only_time_without_frames_and_without_a_request_is_a_stall() -> None:
    clock = Clock()
    progress = Progress(clock)
    clock.now = 7.0
    assert progress.stalled_s() == 7.0
    progress.frames_decoded += 1
    assert progress.stalled_s() == 0.0
    clock.now = 9.0
    asyncio.run(progress.add_written(4))
    assert progress.stalled_s() == 0.0
    clock.now = 12.0
    with progress.waiting(), progress.waiting():
        clock.now = 99.0
        assert progress.stalled_s() == 0.0
    assert progress.stalled_s() == 0.0
    clock.now = 104.0
    assert progress.stalled_s() == 5.0
