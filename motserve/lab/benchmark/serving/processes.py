"""CPU time and memory of processes while something is measured, added up by their kind."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeAlias

from motserve.models.extras import required_extra

ListProcesses: TypeAlias = Callable[[], Iterable[tuple[str, Any]]]
"""Returns the kind of each process and its `psutil.Process`."""

_INTERVAL_S: Final = 0.25  # a process that lives shorter is not seen
_END_S: Final = 5.0
_RAY: Final = "ray"
_PROBE: Final = "limited_probe"  # in the command line of the processes that check posted videos
_CONTENDER: Final = "from multiprocessing."  # in the command line of processes that Python itself starts
_TITLES: Final = {
    "ray::ServeReplica:motserve:Detector": "detector",
    "ray::ServeReplica:motserve:Embedder": "embedder",
    "ray::ServeReplica:motserve:Ingress": "ingress",
    "ray::ServeReplica:motserve:MetricsCollector": "metrics",
    "ray::ProxyActor": "proxy",
    "ray::ServeController": "controller",
    "ray::SessionActor": "sessions",
}
"""Kind of a process by the beginning of its title; the other processes of Ray are of one kind."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What the processes of one kind used.

    Attributes:
        kind: The kind, such as `detector`.
        processes: Most processes at a time.
        cpu_s: CPU time of all of them in seconds.
        peak_bytes: Largest memory of all of them at a time, without files and memory that is shared.
    """

    kind: str
    processes: int
    cpu_s: float
    peak_bytes: int


@dataclass(slots=True)
class _Seen:
    kind: str
    first_s: float
    last_s: float


class ProcessSampler:
    """Samples processes in a thread from the beginning of a `with` block to its end.

    Args:
        processes: Lists the processes; it is called for each sample.
        interval_s: Seconds between two samples. Lowered, short peaks are seen, and sampling takes more CPU time.

    Attributes:
        uses: What each kind used; complete after the block.

    Raises:
        MissingExtra: psutil is not installed.
    """

    def __init__(self, processes: ListProcesses, interval_s: float = _INTERVAL_S) -> None:
        with required_extra("lab", "the measurement of processes"):
            import psutil

        self._gone: type[Exception] = psutil.NoSuchProcess
        self._processes = processes
        self._interval_s = interval_s
        self._seen: dict[tuple[int, float], _Seen] = {}
        self._peak_bytes: dict[str, int] = defaultdict(int)
        self._peak_count: dict[str, int] = defaultdict(int)
        self._began = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sample-processes", daemon=True)

    @property
    def uses(self) -> list[ProcessUse]:
        """What each kind used so far, sorted by kind."""
        cpu: dict[str, float] = defaultdict(float)
        for seen in self._seen.values():
            cpu[seen.kind] += seen.last_s - seen.first_s
        return [ProcessUse(kind, self._peak_count[kind], cpu[kind], self._peak_bytes[kind]) for kind in sorted(cpu)]

    def sample(self) -> None:
        """Take one sample; processes of the first one count from then, others from their start."""
        sizes: dict[str, int] = defaultdict(int)
        counts: dict[str, int] = defaultdict(int)
        for kind, process in self._processes():
            with suppress(self._gone):
                with process.oneshot():
                    key = process.pid, process.create_time()
                    times, memory = process.cpu_times(), process.memory_info()
                total = times.user + times.system
                seen = self._seen.setdefault(key, _Seen(kind, 0.0 if self._began else total, total))
                seen.kind, seen.last_s = kind, total
                sizes[kind] += memory.rss - memory.shared
                counts[kind] += 1
        self._began = True
        for kind, size in sizes.items():
            self._peak_bytes[kind] = max(self._peak_bytes[kind], size)
            self._peak_count[kind] = max(self._peak_count[kind], counts[kind])

    def __enter__(self) -> ProcessSampler:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_END_S)
        self.sample()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            self.sample()


def one_process(kind: str, pid: int) -> ListProcesses:
    """Return a function that lists one process."""
    import psutil

    process = psutil.Process(pid)
    return lambda: [(kind, process)]


def service_processes() -> ListProcesses:
    """Return a function that lists this process, as `driver`, and those of the service that it has started."""
    import psutil

    this = psutil.Process()

    def processes() -> Iterator[tuple[str, Any]]:
        yield "driver", this
        for process in this.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                command = process.cmdline()
                if not any(_CONTENDER in word for word in command):
                    yield kind_of(command), process

    return processes


def kind_of(command: list[str]) -> str:
    """Return the kind of a process of the service by its command line.

    >>> kind_of(["ray::ServeReplica:motserve:Detector.handle_request"]), kind_of(["raylet", "--port=1"])
    ('detector', 'ray')
    """
    title = command[0] if command else ""
    if any(_PROBE in word for word in command):
        return "probe"
    return next((kind for beginning, kind in _TITLES.items() if title.startswith(beginning)), _RAY)
