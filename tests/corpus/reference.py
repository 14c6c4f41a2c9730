"""Decodes a video with the FFmpeg command line: another release of the same libraries, read by other code."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TIMES = shlex.split(
    "-of json -show_frames -show_entries frame=best_effort_timestamp:stream=time_base:frame_side_data="
)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the command line makes of a file.

    Attributes:
        images: Pictures, uint8 of shape (N, height, width, 3), BGR.
        times: Time of each frame as in the file, in seconds; None where there is none. Their number may differ from
            that of the pictures where a file is damaged.
        tick: Unit of the times in the file, in seconds.
    """

    images: NDArray[np.uint8]
    times: list[float | None]
    tick: float


def decode(path: Path, stream: str, reads: str = "") -> Reference:
    """Decode one stream of a file.

    Raises:
        ValueError: The file has no such stream.
    """
    options = ["-v", "quiet", *shlex.split(reads), "-i", str(path)]
    said = subprocess.run(
        ["ffprobe", "-v", "quiet", *shlex.split(reads), "-select_streams", stream, *_TIMES, str(path)],
        capture_output=True,
    )
    found = json.loads(said.stdout or "{}")
    if not found.get("streams"):
        raise ValueError(f"{path.name} has no stream {stream}")
    tick = Fraction(found["streams"][-1]["time_base"].replace("/0", "/1"))
    stamps = [frame.get("best_effort_timestamp") for frame in found.get("frames", [])]
    # Rotated pictures come out with another size than the frames say; the output states it.
    output = ["-map", f"0:{stream}", "-fps_mode", "passthrough", "-sws_flags", "bilinear"]
    raw = subprocess.run(
        ["ffmpeg", *options, *output, "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "-"], capture_output=True
    )
    return Reference(_pictures(raw.stdout), [None if s is None else float(s * tick) for s in stamps], float(tick))


def _pictures(data: bytes) -> NDArray[np.uint8]:
    """Split a row of PPM pictures of one size."""
    if not data:
        return np.empty((0, 0, 0, 3), np.uint8)
    head = data[:64].split(b"\n", 3)
    width, height = map(int, head[1].split())
    start = sum(len(line) + 1 for line in head[:3])
    step = start + width * height * 3
    pictures = np.frombuffer(data[: len(data) // step * step], np.uint8).reshape(-1, step)[:, start:]
    return np.ascontiguousarray(pictures.reshape(-1, height, width, 3)[..., ::-1])
