"""Session processes that are started before their videos come, so that tracking begins at once.

The start of a process and its imports take seconds. An ingress replica has a few processes that wait: each is an actor
with a name of its own, which the row of a video gets together with its attempt. So the attempt has one actor from its
first moment on, whatever ends in between. A process that waits belongs to one ingress replica, which tells it at
intervals to wait on; when that stops, or when the node is being drained, the process ends.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from motserve.config.serving import SessionConfig

logger = logging.getLogger("motserve.session")

WARM_PREFIX: Final = "warm."
"""Begin of the names of actors that were started before their video came."""
_ANSWER_S: Final = 1.0
"""Seconds in which a process that waits answers; milliseconds are usual."""
_STARTING_ANSWER_S: Final = 0.1
"""Seconds in which a process that is starting may say that it has ended; otherwise it has no answer yet."""
_START_S: Final = 60.0
"""Seconds in which a new process must answer for the first time; three are usual."""
_MISSED_CHECKS: Final = 3


def longest_wait_s(config: SessionConfig) -> float:
    """Return the seconds that a process waits for a video after its ingress replica told it so for the last time."""
    return max(config.lease_s, _MISSED_CHECKS * config.watch_s)


class WaitForVideo:
    """The time in a process from its start until its video comes; it ends the process that waits in vain.

    Args:
        longest_s: Seconds since the last call of `keep` after which the process ends.
        is_draining: Returns whether this node is being drained.
        end_process: Ends this process.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self,
        longest_s: float,
        is_draining: Callable[[], bool],
        end_process: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest_s = longest_s
        self._is_draining = is_draining
        self._end_process = end_process
        self._clock = clock
        self._kept_at = clock()
        self._over = False
        self._lock = threading.Lock()

    def start(self, interval_s: float) -> None:
        """Call `check` every `interval_s` seconds in a thread, until the video comes or the process ends."""

        def watch() -> None:
            while self.check():
                time.sleep(interval_s)

        threading.Thread(target=watch, name="wait-for-video", daemon=True).start()

    def keep(self) -> bool:
        """Wait on; return False if the video has come, or if the process is about to end."""
        with self._lock:
            self._kept_at = self._clock()
            return not self._over

    def end(self) -> bool:
        """Stop to wait, because the video is there; return False if this was so before, or the process is ending."""
        with self._lock:
            was_over, self._over = self._over, True
            return not was_over

    def check(self) -> bool:
        """End the process if it waits in vain; return whether it waits on."""
        drained = self._drained()
        with self._lock:
            if self._over:
                return False
            waited_s = self._clock() - self._kept_at
            if not drained and waited_s <= self._longest_s:
                return True
            self._over = True
        reason = "its node is being drained" if drained else f"no ingress replica asked for it in {waited_s:.0f} s"
        logger.info("a session process that waits for a video ends: %s", reason)
        self._end_process()
        return False

    def _drained(self) -> bool:
        try:
            return self._is_draining()
        except Exception as error:  # of Ray, while its control plane is unavailable
            logger.warning("whether the node is being drained is unknown: %s", error)
            return False


class Actors(Protocol):
    """What `WarmSessions` does with session actors; see `SessionActors`."""

    def start(self, name: str) -> Any:
        """Start an actor without a video."""

    def prepare(self, actor: Any) -> Callable[[], bool]:
        """Have an actor prepare for a video; return a function that tells whether this is done."""

    def keep(self, actors: Sequence[Any], timeout_s: float) -> list[bool | None]:
        """Tell actors to wait on; return for each whether it does, None if it does not answer in time."""

    def kill(self, actor: Any) -> None:
        """End an actor."""


@dataclass(slots=True, eq=False)
class WarmProcess:
    """A process that waits for a video.

    Attributes:
        name: Name of its actor.
        actor: Its actor.
        is_prepared: Returns whether it is ready for a video.
        answered_at: When it answered for the last time, in seconds of the clock; at first when it was started.
        has_answered: Whether it has answered at all.
        is_ready: Whether it was ready at the last check.
    """

    name: str
    actor: Any
    is_prepared: Callable[[], bool]
    answered_at: float
    has_answered: bool = False
    is_ready: bool = False


class WarmSessions:
    """The processes of one ingress replica that wait for videos; its methods may be called by several threads.

    Processes are started one after another, only while no video waits for the start of its own, and only where CPUs
    are free. They end as soon as anything waits for the CPUs that they hold.

    Args:
        config: Has `warm`, the number of processes, and `cpus`, what each reserves.
        actors: Starts and ends them.
        has_free_cpus: Returns whether so many CPUs are free.
        waits_for_cpus: Returns whether anything in the cluster waits for CPUs and could have them with so many more.
        clock: Monotonic clock in seconds.

    Attributes:
        videos_start: Whether videos wait for the start of their processes; the launcher sets it.
    """

    def __init__(
        self,
        config: SessionConfig,
        actors: Actors,
        has_free_cpus: Callable[[float], bool],
        waits_for_cpus: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.videos_start = False
        self._size = config.warm
        self._cpus = config.cpus
        self._longest_silence_s = longest_wait_s(config)
        self._actors = actors
        self._has_free_cpus = has_free_cpus
        self._waits_for_cpus = waits_for_cpus
        self._clock = clock
        self._processes: list[WarmProcess] = []
        self._lock = threading.Lock()

    def take(self) -> WarmProcess | None:
        """Return a process for a video, None if there is none; one that is starting is better than none."""
        while (process := self._pop()) is not None:
            (waits,) = self._actors.keep([process.actor], _ANSWER_S if process.is_ready else _STARTING_ANSWER_S)
            if waits or (waits is None and not process.is_ready):
                return process
            self._kill(process, "it does not answer")
        return None

    def put_back(self, process: WarmProcess) -> None:
        """Let a process wait on whose video was refused."""
        with self._lock:
            if self._size:
                self._processes.append(process)
                return
        self._kill(process, "the service ends")

    def refill(self) -> None:
        """Tell the processes to wait on, and replace those that are gone; call it every `watch_s` seconds."""
        if not self._size:
            return
        self._check()
        with self._lock:
            held = len(self._processes) * self._cpus
        if self._waits_for_cpus(held):
            self._drop_all("its CPUs are needed")
            return
        with self._lock:
            wants_another = len(self._processes) < self._size and all(process.is_ready for process in self._processes)
        if wants_another and not self.videos_start and self._has_free_cpus(self._cpus):
            name = f"{WARM_PREFIX}{uuid.uuid4().hex}"
            actor = self._actors.start(name)
            self.put_back(WarmProcess(name, actor, self._actors.prepare(actor), self._clock()))

    def close(self) -> None:
        """End all processes that wait, and start no other."""
        with self._lock:
            self._size = 0
        self._drop_all("the service ends")

    def _check(self) -> None:
        with self._lock:
            processes = list(self._processes)
        waiting = self._actors.keep([process.actor for process in processes], _ANSWER_S) if processes else []
        for process, waits in zip(processes, waiting, strict=True):
            if waits:
                process.answered_at, process.has_answered = self._clock(), True
                process.is_ready = process.is_ready or process.is_prepared()
            elif waits is not None:
                self._drop(process, "it has ended or leaves its node")
            else:
                limit_s = self._longest_silence_s if process.has_answered else max(self._longest_silence_s, _START_S)
                if self._clock() - process.answered_at > limit_s:
                    self._drop(process, f"it has not answered for {limit_s:.0f} s")

    def _pop(self) -> WarmProcess | None:
        with self._lock:
            if not self._processes:
                return None
            process = next((process for process in self._processes if process.is_ready), self._processes[0])
            self._processes.remove(process)
            return process

    def _drop_all(self, reason: str) -> None:
        while (process := self._pop()) is not None:
            self._kill(process, reason)

    def _drop(self, process: WarmProcess, reason: str) -> None:
        with self._lock:
            if process not in self._processes:  # it has a video by now
                return
            self._processes.remove(process)
        self._kill(process, reason)

    def _kill(self, process: WarmProcess, reason: str) -> None:
        logger.info("a session process that waits for a video is ended: %s", reason)
        self._actors.kill(process.actor)
