"""Connects a command to Ray, or starts Ray for it, in a way that Ctrl-C and `kill` leave no process behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from motserve.cli.output.terminal import clean_up_when_ended
from motserve.errors import MotserveError
from motserve.serving.addresses import no_cluster, require_cluster

LOCAL: Final = "local"
"""Address of Ray that this process starts for itself."""

_RAY_SETTINGS: Final = {
    # Ended actors and tasks that Ray remembers. Each video is one actor and some hundred tasks; Ray's own bounds are
    # 100,000 of both, gigabytes after months.
    "maximum_gcs_destroyed_actor_cached_count": 1000,
    "task_events_max_num_task_in_gcs": 10_000,
    # From the request to end to SIGKILL: a stopped session blocks a detector until it is killed.
    "kill_worker_timeout_milliseconds": 1000,
}

_LEAST_CPUS: Final = 2  # reserved by one replica of each deployment and a session; a smaller machine shares its cores


@contextmanager
def running_ray(address: str | None, namespace: str | None = None, show_logs: bool = False) -> Iterator[None]:
    """Connect to Ray, or start it, and disconnect or end it.

    A signal during the start is acted on when Ray has started: half of its processes could not be ended. Therefore Ray
    is started by another thread, where it replaces no handlers of signals. That thread lives as long as Ray does,
    because the kernel ends the processes of Ray together with the thread that started them. Connecting to a cluster
    starts no processes and is interrupted at once.

    Args:
        address: Address of a running cluster, or `local`. None for the cluster in `RAY_ADDRESS`, else one that runs on
            this machine, else `local`.
        namespace: Namespace of actors; None for one of this process only.
        show_logs: Print the logs of all processes of Ray.

    Raises:
        InvalidConfig: There is no cluster at the address.
        MotserveError: Ray does not start.
    """
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or None
    connects = address not in (None, LOCAL)
    if address is not None and connects:
        require_cluster(address)

    def start_and_end() -> None:
        try:
            ray.init(
                address=address,
                namespace=namespace,
                log_to_driver=show_logs,
                logging_level=logging.ERROR,
                **resources,
            )
        except BaseException as error:  # the other thread waits, also if Ray wants to end the process
            failures.append(error)
        started.set()
        no_longer_needed.wait()
        with contextlib.suppress(Exception):  # of a cluster that is gone
            ray.shutdown()

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    resources: dict[str, Any] = {}
    if address == LOCAL:
        cpus = max(_LEAST_CPUS, os.cpu_count() or 1)
        resources = {"num_cpus": cpus, "include_dashboard": False, "_system_config": _RAY_SETTINGS}
    failures: list[BaseException] = []
    started, no_longer_needed = threading.Event(), threading.Event()
    thread = threading.Thread(target=start_and_end, name="ray", daemon=connects)
    thread.start()
    try:
        started.wait() if connects else _wait_in_any_case(started)
        if failures:
            raise _not_connected(address, failures[0]) from failures[0]
        clean_up_when_ended()
        with _exact_exit_codes():
            yield
    finally:
        with undisturbed():
            no_longer_needed.set()
            if started.is_set():
                thread.join()


@contextmanager
def _exact_exit_codes() -> Iterator[None]:
    """Let `kill` and a closed terminal interrupt like Ctrl-C; calls of Ray turn any other exit code into 1."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended: list[int] = []

    def interrupt(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
        ended.append(number)
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if ended:
            raise SystemExit(128 + ended[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_in_any_case(event: threading.Event) -> None:
    """Wait for an event, and only then let Ctrl-C or `kill` interrupt; a second one ends the process at once."""
    interruption: BaseException | None = None
    while not event.is_set():
        try:
            event.wait()
        except KeyboardInterrupt as error:
            interruption = error
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        except SystemExit as error:
            interruption = error
    if interruption is not None:
        raise interruption


def _not_connected(address: str | None, error: BaseException) -> MotserveError:
    if address in (None, LOCAL):
        return MotserveError(f"Ray does not start: {' '.join(str(error).split())}")
    return no_cluster(str(address), error)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Finish the clean-up although Ctrl-C is pressed once more; a second `kill` still ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
