"""The faults: what each does to the service, and how it is undone."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from faults.cluster import Cluster
from faults.hosts import Disk, Host
from faults.processes import processes, session_process

STOPPED_S = 60.0
CUT_S = 30.0
STUCK_S = 15.0
PARTS = ("session", "detector", "embedder", "ingress", "controller", "proxy")


@dataclass(frozen=True)
class Place:
    """Where a fault happens."""

    cluster: Cluster
    disk: Disk
    video: str


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: What happens.
        part: To which part of the service.
        seconds: How long it lasts at most; 0 for what is not undone.
        begin: Lets it happen, and returns what undoes it.
    """

    name: str
    part: str
    seconds: float
    begin: Callable[[Place], Callable[[], None]]

    @contextmanager
    def happening(self, place: Place) -> Iterator[None]:
        """Let it happen; it is undone after its time, or at the end."""
        undone, undo, lock = False, self.begin(place), threading.Lock()

        def once() -> None:
            nonlocal undone
            with lock:
                if not undone:
                    undone = True
                    undo()

        timer = threading.Timer(self.seconds, once)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            once()


def _process(place: Place, part: str) -> int:
    if part == "session":
        pid = session_process(place.video)
        if pid is None:
            raise RuntimeError(f"no session tracks {place.video}")
        return pid
    found = set(processes(part))
    if part == "proxy":  # that of a worker, if one has replicas
        found = found - set(processes(part, host=place.cluster.head.name)) or found
    return min(found)


def _host_of(place: Place) -> Host:
    """Return the host of the session of the video."""
    pid = _process(place, "session")
    return next(host for host in place.cluster.workers if pid in host.processes())


def _kill(part: str) -> Callable[[Place], Callable[[], None]]:
    def begin(place: Place) -> Callable[[], None]:
        os.kill(_process(place, part), signal.SIGKILL)
        return lambda: None

    return begin


def _stop(part: str) -> Callable[[Place], Callable[[], None]]:
    def begin(place: Place) -> Callable[[], None]:
        pid = _process(place, part)
        os.kill(pid, signal.SIGSTOP)

        def undo() -> None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        return undo

    return begin


def _on_host(
    where: str, act: Callable[[Host], None], undo: Callable[[Host], None]
) -> Callable[[Place], Callable[[], None]]:
    def begin(place: Place) -> Callable[[], None]:
        host = place.cluster.head if where == "head" else _host_of(place)
        act(host)
        return lambda: undo(host)

    return begin


def _fill(place: Place) -> Callable[[], None]:
    place.disk.fill()
    return place.disk.empty


def _stick(place: Place) -> Callable[[], None]:
    place.disk.stick()
    return place.disk.go_on


def _lock(place: Place) -> Callable[[], None]:
    database = sqlite3.connect(
        place.cluster.storage / "jobs.sqlite", timeout=60, isolation_level=None, check_same_thread=False
    )
    database.execute("BEGIN EXCLUSIVE")

    def undo() -> None:
        with closing(database):
            database.execute("ROLLBACK")

    return undo


def _hosts(where: str) -> list[Fault]:
    def kill(host: Host) -> None:
        host.signal(signal.SIGKILL)

    def stop(host: Host) -> None:
        host.signal(signal.SIGSTOP)

    def go_on(host: Host) -> None:
        host.signal(signal.SIGCONT)

    return [
        Fault("kill", where, 0, _on_host(where, kill, lambda _: None)),
        Fault("stop", where, CUT_S, _on_host(where, stop, go_on)),
        Fault("cut off", where, CUT_S, _on_host(where, Host.cut, Host.mend)),
        Fault("answers lost", where, CUT_S, _on_host(where, Host.lose_answers, Host.mend)),
        Fault("link slow", where, CUT_S, _on_host(where, Host.slow, Host.mend)),
    ]


FAULTS = [
    *(Fault("kill", part, 0, _kill(part)) for part in PARTS),
    *(Fault("stop", part, STOPPED_S, _stop(part)) for part in PARTS),
    *_hosts("worker"),
    *_hosts("head"),
    Fault("full", "disk", STUCK_S, _fill),
    Fault("stuck", "disk", STUCK_S, _stick),
    Fault("locked", "database", CUT_S, _lock),
]
