"""What takes turns in a benchmark: contenders of one process, and the service with a number of videos at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from motserve.config.base import Role
from motserve.lab.benchmark.serving.client import ServiceClient
from motserve.lab.benchmark.serving.deliveries import Deliveries
from motserve.lab.benchmark.serving.processes import ListProcesses, ProcessSampler, ProcessUse, one_process
from motserve.lab.benchmark.serving.service_metrics import ModelUse, Reading, model_use, settled, stage_seconds
from motserve.lab.benchmark.serving.worker import Worker

SERVICE: Final = "service"
_ROLES: Final[tuple[Role, ...]] = ("detector", "reid")
_EXPORT_S: Final = 45.0  # Ray exports every 10 s from each process


@dataclass(frozen=True, slots=True)
class Clip:
    """A video file and its number of frames."""

    path: Path
    frames: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One measured run of an entrant.

    Attributes:
        videos: The arrival of the frames of each video.
        processes: What the processes used; empty where they are not known.
        models: What each model did; None where the metrics are not known.
        stages: Seconds of the chunks in each stage of the sessions; None where the metrics are not known.
    """

    videos: Sequence[Deliveries]
    processes: Sequence[ProcessUse] = ()
    models: Mapping[Role, ModelUse] | None = None
    stages: Mapping[str, float] | None = None


class Entrant(ABC):
    """Something that is measured in turns.

    Attributes:
        name: Its name.
        sessions: Videos that it tracks at once.
    """

    name: str
    sessions: int

    @abstractmethod
    def run(self, clip: Clip) -> Turn:
        """Track a clip, as many times at once as there are sessions."""

    def warm_up(self, clip: Clip) -> None:
        """Track a short clip, whose times do not count."""
        self.run(clip)


@dataclass
class InOneProcess(Entrant):
    """A contender in a process of its own.

    Attributes:
        name: Its name.
        worker: Its process.
        sessions: 1.
    """

    name: str
    worker: Worker
    sessions: int = 1

    def run(self, clip: Clip) -> Turn:
        """See `Entrant.run`."""
        with ProcessSampler(one_process("process", self.worker.pid)) as sampler:
            deliveries = self.worker.track(clip.path)
        return Turn([deliveries], sampler.uses)


@dataclass
class ServiceMeter:
    """A running service, and where its processes and metrics are read.

    Attributes:
        client: Posts videos to it.
        processes: Lists its processes; None where they are not known.
        read: Reads its metrics; None where they are not known.
        warn: Called with what could not be measured.
    """

    client: ServiceClient
    processes: ListProcesses | None
    read: Callable[[], Reading] | None
    warn: Callable[[str], None]
    _before: Reading | None = field(default=None, init=False)
    _is_warm: bool = field(default=False, init=False)

    def warm_up(self, clip: Clip) -> None:
        """Track a short clip once, whatever the number of videos at once is later."""
        if not self._is_warm:
            self.measure(clip, 1)
        self._is_warm = True

    def measure(self, clip: Clip, sessions: int) -> Turn:
        """Track a clip a number of times at once."""
        if self._before is None and self.read is not None:
            self._before = self.read()
        with ProcessSampler(self.processes or _no_processes) as sampler:
            videos = self.client.track_at_once(clip.path, sessions, clip.frames)
        return self._with_metrics(Turn(videos, sampler.uses), clip.frames * sessions)

    def _with_metrics(self, turn: Turn, frames: int) -> Turn:
        if self.read is None or self._before is None:
            return turn
        before, after = self._before, settled(self.read, self._before, frames, _EXPORT_S)
        if after is None:
            self.warn(f"the metrics of the service did not show {frames} frames within {_EXPORT_S:.0f} s; left out")
            self._before = None
            return turn
        self._before = after
        models = {role: model_use(before, after, role) for role in _ROLES}
        return Turn(turn.videos, turn.processes, models, stage_seconds(before, after))


@dataclass
class Served(Entrant):
    """The service with a number of videos at once.

    Attributes:
        meter: The service.
        sessions: The number.
        name: Its name.
    """

    meter: ServiceMeter
    sessions: int
    name: str = SERVICE

    def run(self, clip: Clip) -> Turn:
        """See `Entrant.run`."""
        return self.meter.measure(clip, self.sessions)

    def warm_up(self, clip: Clip) -> None:
        """See `Entrant.warm_up`."""
        self.meter.warm_up(clip)


def _no_processes() -> tuple[()]:
    return ()


def take_turns(
    entrants: Sequence[Entrant],
    clip: Clip,
    warm_up: Clip,
    rounds: int,
    notify: Callable[[str, int, int | None], None],
) -> list[list[Turn]]:
    """Run every entrant once on a short clip, then all of them in each round, so that other load affects all alike.

    Args:
        entrants: The entrants.
        clip: The clip that is measured.
        warm_up: A short clip, whose times do not count.
        rounds: Number of rounds, at least 1.
        notify: Called with the name of the present step, turns done and all turns.

    Returns:
        The turns of each entrant, one per round.

    Raises:
        ValueError: `rounds` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"a benchmark needs at least one round, got {rounds}")
    for done, entrant in enumerate(entrants):
        notify("warm-up", done, len(entrants))
        entrant.warm_up(warm_up)
    notify("warm-up", len(entrants), len(entrants))
    turns: list[list[Turn]] = [[] for _ in entrants]
    total = rounds * len(entrants)
    for number in range(total):
        notify("turns", number, total)
        which = number % len(entrants)
        turns[which].append(entrants[which].run(clip))
    notify("turns", total, total)
    return turns
