"""Runs a contender in a process of its own, so that none changes the threads or the memory of another."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from motserve.config.logs import setup_logging
from motserve.errors import MotserveError
from motserve.lab.benchmark.serving.contenders import InProcess
from motserve.lab.benchmark.serving.deliveries import Deliveries

_END_S = 10.0


class Worker:
    """The process of a contender. It ends with `close`, or with this process.

    Args:
        name: Name of the contender, for messages.
        contender: The contender; it is loaded in the process.

    Raises:
        MotserveError: The contender cannot be loaded; any error of its kind.
    """

    def __init__(self, name: str, contender: InProcess) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, contender), daemon=True, name=name)
        self._process.start()
        other.close()
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """ID of the process."""
        pid = self._process.pid
        assert pid is not None
        return pid

    def track(self, clip: Path) -> Deliveries:
        """Have the contender track a clip.

        Raises:
            MotserveError: The process has ended.
            Exception: Any error of the contender.
        """
        with suppress(BrokenPipeError, ConnectionResetError):  # `_receive` says why
            self._connection.send(clip)
        deliveries: Deliveries = self._receive()
        return deliveries

    def close(self) -> None:
        """End the process. Calling it again does nothing."""
        self._connection.close()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            raise MotserveError(
                f"the process of {self._name} ended with exit code {self._process.exitcode}; see its output above"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _work(connection: Connection, contender: InProcess) -> None:
    """Load a contender and track the clips that arrive, until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at Ctrl-C the other process closes the connection
    setup_logging(contender.config.logging)
    with suppress(EOFError, BrokenPipeError):
        connection.send(_outcome(contender.load))
        while True:
            connection.send(_outcome(partial(contender.track, connection.recv())))


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return error
