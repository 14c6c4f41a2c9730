from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from motserve.cli.running.ray_session import LOCAL, _exact_exit_codes, running_ray
from motserve.errors import MotserveError


@pytest.fixture
def handler() -> Iterator[None]:
    """The handlers of a command; without one, a signal would end the tests."""

    def unexpected(number: int, _: object) -> None:
        raise AssertionError(number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, unexpected) for number in numbers]
    yield
    for number, previous in zip(numbers, before, strict=True):
        assert signal.getsignal(number) is unexpected
        signal.signal(number, previous)


def wait_like_ray(number: signal.Signals) -> None:
    """Get a signal in a call of Ray, whose core replaces the exit code."""
    try:
        os.kill(os.getpid(), number)
    except SystemExit:
        raise SystemExit(1) from None


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_calls_of_ray_do_not_change_the_exit_code_of_a_signal(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as end, _exact_exit_codes():
        wait_like_ray(number)
    assert end.value.code == 128 + number


@pytest.mark.usefixtures("handler")
def test_ctrl_c_stays_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), _exact_exit_codes():
        raise KeyboardInterrupt


class FakeRay:
    """Notes how Ray is started and ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
        self.settings: dict[str, Any] = {}
        self.ended = 0
        self._failure = failure
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr("ray.init", self._init)
        monkeypatch.setattr("ray.shutdown", self._shutdown)

    def _init(self, **settings: Any) -> None:
        self.settings = settings
        if self._failure is not None:
            raise self._failure

    def _shutdown(self) -> None:
        self.ended += 1


@pytest.mark.usefixtures("handler")
def test_ray_is_started_for_the_block_and_ended_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    with running_ray(LOCAL, namespace="mine"):
        assert not fake.ended
    assert (fake.settings["address"], fake.settings["namespace"], fake.ended) == (LOCAL, "mine", 1)
    assert fake.settings["num_cpus"] >= 1


@pytest.mark.usefixtures("handler")
def test_a_cluster_that_answers_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    monkeypatch.setattr("motserve.cli.running.ray_session.require_cluster", lambda _: None)
    with running_ray("10.0.0.1:6379"):
        assert fake.settings["address"] == "10.0.0.1:6379"
        assert "num_cpus" not in fake.settings
    assert fake.ended == 1


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize(
    ("address", "said"), [(LOCAL, "Ray does not start: no memory"), ("10.0.0.1:6379", "10.0.0.1:6379")]
)
def test_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str, said: str) -> None:
    FakeRay(monkeypatch, RuntimeError("no\nmemory"))
    monkeypatch.setattr("motserve.cli.running.ray_session.require_cluster", lambda _: None)
    with pytest.raises(MotserveError, match=said), running_ray(address):
        raise AssertionError("the block must not begin")
