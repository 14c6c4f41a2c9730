"""Breaks each part of a running service while it tracks two videos, and prints what that did to their frames.

`python -m faults` from the folder of the tests, as root on Linux with two cores and 12 GB or more; for one to two
hours.
The service runs on three hosts of their own on this machine: a head and two workers. Each fault happens when the first
video has 10, 50 and 90 % of its frames.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service_checks import write_clip

from faults.cluster import Cluster
from faults.hosts import Disk, Network, missing
from faults.inject import FAULTS, Fault, Place
from faults.watch import Difference, Watch, difference, frames_of

CLIP_S = 12.0
MOMENTS = (10, 50, 90)
LIMIT_S = 400.0
POLL_S = 0.2
HEAD = (
    "| fault | part | at % | frames lost | doubled | people changed | neighbour | longest pause of the video, s "
    "| of its neighbour | without HTTP, s |\n| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |"
)


@dataclass(frozen=True)
class Outcome:
    """What a fault did."""

    wrong: Difference
    states: tuple[str, str]
    pauses: tuple[float, float]
    silence: float

    @property
    def good(self) -> bool:
        """Whether nothing was lost, and no video failed."""
        return self.wrong == Difference() and self.states == ("done", "done")

    def row(self, fault: Fault, moment: int) -> str:
        """Return a row of the table."""
        video, neighbour = self.states
        cells = (
            *(fault.name, fault.part, moment, self.wrong.lost, self.wrong.doubled, self.wrong.changed),
            neighbour if video == "done" else f"{neighbour}, the video {video}",
            *(f"{seconds:.1f}" for seconds in (*self.pauses, self.silence)),
        )
        return f"| {' | '.join(map(str, cells))} |"


class Faults:
    """Tries faults on a cluster.

    Args:
        cluster: The running service.
        disk: The disk of its storage.
        clips: Two videos.
    """

    def __init__(self, cluster: Cluster, disk: Disk, clips: tuple[Path, Path]) -> None:
        self.cluster, self.disk, self.clips = cluster, disk, clips
        self.expected: list[list[dict[str, Any]]] = []

    def undisturbed(self) -> Watch:
        """Track the videos without a fault; what comes out is what is expected of the other runs."""
        videos = self._post()
        watch = self._watch(videos)
        states = self._wait(videos, watch)
        watch.end()
        if states != ["done", "done"]:
            raise RuntimeError(f"without a fault the videos ended {states}")
        self.expected = [self._fetch(video) for video in videos]
        self._delete(videos)
        return watch

    def run(self, fault: Fault, moment: int) -> Outcome:
        """Let a fault happen while both videos are tracked.

        Args:
            fault: The fault.
            moment: Per cent of the frames of the first video after which it happens.
        """
        self.cluster.wait_until_ready()
        videos = self._post()
        watch = self._watch(videos)
        begin = len(self.expected[0]) * moment / 100
        end = time.monotonic() + LIMIT_S
        while watch.frames[videos[0]] < begin:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"the video had {watch.frames[videos[0]]} frames after {LIMIT_S:.0f} s, no fault yet"
                )
            time.sleep(POLL_S / 4)
        with fault.happening(Place(self.cluster, self.disk, videos[0])):
            watch.mark()
            states = self._wait(videos, watch)
        watch.end()
        wrong = [difference(self._fetch(video), frames) for video, frames in zip(videos, self.expected, strict=True)]
        first, second = wrong
        total = Difference(first.lost + second.lost, first.doubled + second.doubled, first.changed + second.changed)
        self._delete(videos)
        pauses = (watch.pauses[videos[0]], watch.pauses[videos[1]])
        return Outcome(total, (states[0], states[1]), pauses, watch.silence)

    def _post(self) -> list[str]:
        answers = [self.cluster.ask("POST", "/v1/videos", json={"url": clip.as_uri()}) for clip in self.clips]
        return [answer.json()["id"] for answer in answers]

    def _watch(self, videos: list[str]) -> Watch:
        hosts = iter(self._round_robin())
        watch = Watch(self.cluster.storage, videos, lambda: self.cluster.answers(next(hosts), "/healthz", 1))
        watch.begin()
        return watch

    def _round_robin(self) -> Iterator[Any]:
        while True:
            yield from self.cluster.hosts

    def _wait(self, videos: list[str], watch: Watch) -> list[str]:
        end = time.monotonic() + LIMIT_S
        states = dict.fromkeys(videos, "running")
        while "running" in states.values() and time.monotonic() < end:
            time.sleep(POLL_S)
            for video in videos:
                if states[video] == "running":
                    status = self.cluster.ask("GET", f"/v1/videos/{video}").json()["status"]
                    if status in ("done", "failed"):
                        states[video] = status
                        watch.finished(video)
        return list(states.values())

    def _fetch(self, video: str) -> list[dict[str, Any]]:
        parameters = {"format": "ndjson", "partial": "true"}
        return frames_of(self.cluster.ask("GET", f"/v1/videos/{video}/tracks", params=parameters).text)

    def _delete(self, videos: list[str]) -> None:
        for video in videos:
            self.cluster.ask("DELETE", f"/v1/videos/{video}")


def chosen(names: list[str]) -> list[Fault]:
    """Return the faults whose name and part contain all words of one of the given names; all without names."""
    titles = {fault: f"{fault.name} {fault.part}" for fault in FAULTS}
    return [f for f, title in titles.items() if not names or any(set(n.split()) <= set(title.split()) for n in names)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="faults and parts, such as 'kill' or 'stop detector'; all by default")
    parser.add_argument("--moments", type=int, nargs="+", default=MOMENTS, help="per cent of the first video")
    parser.add_argument("--folder", type=Path, help="folder of logs; a temporary one by default")
    arguments = parser.parse_args()
    if lack := missing():
        print(f"error: {lack}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the hosts and the disk are removed
    bad = 0
    with ExitStack() as ends:
        folder = arguments.folder or Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="motserve-faults-")))
        folder.mkdir(parents=True, exist_ok=True)
        clips = (write_clip(folder / "one.mp4", CLIP_S, 5), write_clip(folder / "two.mp4", CLIP_S, 3))
        disk = ends.enter_context(Disk(folder / "disk.img", folder / "disk"))
        cluster = Cluster(folder, disk.folder / "data", folder)
        ends.enter_context(Network(cluster.hosts))
        ends.callback(cluster.end)
        cluster.begin()
        faults = Faults(cluster, disk, clips)
        watch = faults.undisturbed()
        print(f"without a fault the longest pause is {max(watch.pauses.values()):.1f} s\n\n{HEAD}", flush=True)
        for fault in chosen(arguments.names):
            for moment in arguments.moments:
                outcome = faults.run(fault, moment)
                print(outcome.row(fault, moment), flush=True)
                bad += not outcome.good
    print(f"\n{bad} faults did harm" if bad else "\nno fault did harm")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
