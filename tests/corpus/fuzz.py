"""Reads damaged copies of small videos within limits on memory and time: only frames or a typed error may come out.

`python -m corpus.fuzz --seconds 600` from the folder of the tests. Each number of a run makes one file; the seed and
the number make it again. Batches run in processes of their own, because a crash of the decoder ends its process.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import cv2
import numpy as np

from corpus.build import build
from corpus.mutate import mutate
from corpus.rows import ROWS
from motserve.config import VideoConfig
from motserve.errors import MotserveError
from motserve.video import open_video, probe_video

VIDEOS = (
    "h264.mp4",
    "h264-fragmented.mp4",
    "edit-list.mov",
    "sound-first.mkv",
    "vp9.webm",
    "mpeg4.avi",
    "sound-first.avi",
    "sound-first.ts",
    "h264.m2ts",
    "mpeg2.mpg",
    "h264.flv",
    "wmv2.wmv",
    "theora.ogv",
    "mpeg2.mxf",
    "h264.nut",
    "gif.gif",
    "apng-rgba.apng",
    "raw-odd.y4m",
    "vp8.ivf",
    "h264.h264",
    "hevc.hevc",
    "mpeg4.m4v",
    "mjpeg.mjpeg",
    "mpeg2.wtv",
    "rv10.rm",
    "av1.mp4",
    "hevc.mp4",
    "ffv1.mkv",
    "prores.mov",
    "raw-uyvy.mov",
    "subtitles.mkv",
    "timecode.mov",
    "many-sounds.mkv",
    "joined.ts",
    "turned-90.mp4",
    "av1.obu",
)
PICTURES = ("picture.png", "picture.jpg")
CONFIG = VideoConfig(max_pixels=1 << 21, max_frames=3000)
BATCH = 150
CPU_S = 30  # for one file
MEMORY = 3 << 29  # 1.5 GiB beside what is taken when a batch begins: a GiB of address space, most of it libraries


def seeds(folder: Path) -> list[Path]:
    """Make the files that are damaged, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("words.srt", "chapters.txt"):
        (folder / name).write_text("1\n00:00:00,100 --> 00:00:00,500\nOne\n")
    rng = np.random.default_rng(0)
    for name in PICTURES:
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (24, 32, 3), np.uint8))
    return [*(build(ROWS[name], ROWS, folder) for name in VIDEOS), *(folder / name for name in PICTURES)]


def damaged(files: list[Path], seed: int, number: int) -> tuple[str, bytes]:
    """Return the name and the bytes of one damaged file."""
    rng = random.Random(f"{seed}:{number}")
    first, second = rng.choice(files), rng.choice(files)
    return first.name, mutate(first.read_bytes(), second.read_bytes(), rng)


def examine(path: Path) -> str:
    """Read a video as the service does, check what comes out, and return the outcome in words.

    Raises:
        AssertionError: Frames are not what they should be.
    """
    outcomes = []
    try:
        probe_video(path, CONFIG)
    except MotserveError as error:
        outcomes.append(_in_words(error))
    try:
        with open_video(path, CONFIG) as video:
            last, count = -1.0, 0
            for frame in video.frames():
                assert isfinite(frame.timestamp), frame.timestamp
                assert frame.timestamp > last, (last, frame.timestamp)
                assert frame.index == count
                assert frame.image.shape == (video.info.height, video.info.width, 3)
                assert frame.image.dtype == np.uint8
                assert frame.image.flags.c_contiguous
                last, count = frame.timestamp, count + 1
            assert count
            return "frames"
    except MotserveError as error:
        return _in_words(error)


def _in_words(error: MotserveError) -> str:
    words = re.sub(r"^\S+:? |[\d.]+x?\d*|\(.*\)|\S+\.(?:png|jpg)", "", str(error))
    return f"{type(error).__name__}: {' '.join(words.split())[:60]}"


def run_batch(folder: Path, seed: int, start: int, stop: int) -> None:
    """Examine some files, and print a line before and after each. A fault ends the process."""
    files = seeds(folder)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(start, stop):
            name, data = damaged(files, seed, number)
            path = Path(scratch) / "clip"
            if name in PICTURES:
                path.mkdir()
                for copy in "12":
                    (path / f"{copy}{Path(name).suffix}").write_bytes(data)
            else:
                path.write_bytes(data)
            print(json.dumps({"number": number, "name": name}), flush=True)
            used = resource.getrusage(resource.RUSAGE_SELF)
            resource.setrlimit(
                resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_S, resource.RLIM_INFINITY)
            )
            began = time.monotonic()
            outcome = examine(path)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            result = {"outcome": outcome, "seconds": time.monotonic() - began, "memory": memory}
            print(json.dumps(result), flush=True)
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def run_batches(folder: Path, seed: int, seconds: float) -> Iterator[tuple[dict[str, object], str]]:
    """Run batches until the time is over; yield the result of each file, and what a process said that ended early."""
    number, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        command = [sys.executable, "-m", "corpus.fuzz", "--folder", folder, "--seed", seed, "--batch", number]
        done = subprocess.run(
            [*map(str, command), str(number + BATCH)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent.parent,
            errors="replace",
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        for begun, ended in zip(lines[::2], lines[1::2], strict=False):
            yield {**begun, **ended}, ""
        number += BATCH
        if done.returncode:
            if not lines or len(lines) % 2 == 0:
                raise RuntimeError(f"a batch ended with {done.returncode}: {done.stderr[-3000:]}")
            yield lines[-1], f"exit code {done.returncode}\n{done.stderr[-3000:]}"
            number = int(lines[-1]["number"]) + 1


def fuzz(folder: Path, saved: Path, seed: int, seconds: float) -> int:
    """Examine damaged files for some time, print what became of them, and return the number of faults.

    Args:
        folder: Where the whole files are, or are made.
        saved: Where files are saved that bring out a fault.
        seed: Makes the run repeatable.
        seconds: How long it takes.
    """
    files = seeds(folder)
    outcomes: Counter[str] = Counter()
    slowest, slowest_name, memory, faults = 0.0, "", 0, 0
    for result, fault in run_batches(folder, seed, seconds):
        number = int(str(result["number"]))
        if fault:
            faults += 1
            saved.mkdir(parents=True, exist_ok=True)
            path = saved / f"{seed}-{number}-{result['name']}"
            path.write_bytes(damaged(files, seed, number)[1])
            print(f"FAULT seed {seed}, file {number} ({result['name']}), saved as {path}\n{fault}", flush=True)
            continue
        outcomes[str(result["outcome"])] += 1
        memory = max(memory, int(str(result["memory"])))
        if (taken := float(str(result["seconds"]))) > slowest:
            slowest, slowest_name = taken, f"{number}, {result['name']}"
    for outcome, times in outcomes.most_common():
        print(f"{times:8} {outcome}")
    print(f"{outcomes.total() + faults} files, {faults} faults; slowest {slowest:.1f} s ({slowest_name}); ", end="")
    print(f"most memory {memory >> 20} MiB")
    return faults


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "motserve-fuzz" / "whole")
    parser.add_argument("--saved", type=Path, default=Path(tempfile.gettempdir()) / "motserve-fuzz" / "faults")
    parser.add_argument("--batch", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.batch:
        run_batch(args.folder, args.seed, *args.batch)
    elif fuzz(args.folder, args.saved, args.seed, args.seconds):
        sys.exit(1)


if __name__ == "__main__":
    main()
