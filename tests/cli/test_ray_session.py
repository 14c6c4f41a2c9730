from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from motserve.cli.running.ray_session import _exact_exit_codes


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
