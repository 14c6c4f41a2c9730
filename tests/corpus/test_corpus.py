"""Each file of the corpus, read by motserve and by the FFmpeg command line: frames, times and pixels must agree."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.build import build
from corpus.reference import Reference, decode
from corpus.row import Row
from corpus.rows import ROWS
from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.types import Frame
from motserve.video import open_video
from motserve.video.container import pick_stream

pytestmark = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="the FFmpeg command line is not installed"
)
CONFIG = VideoConfig()


def read(path: Path) -> tuple[list[Frame], str | None]:
    """Return the frames of a file, and why it was refused at its end."""
    frames: list[Frame] = []
    try:
        with open_video(path, CONFIG) as video:
            frames.extend(video.frames())
    except InvalidVideo as error:
        return frames, str(error)
    return frames, None


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=[] if row.quick else pytest.mark.slow) for row in ROWS.values()]
)
def test_motserve_reads_what_ffmpeg_reads(row: Row, corpus: Path) -> None:
    path = build(row, ROWS, corpus)
    frames, refused = read(path)
    if row.refused is None and not row.may_refuse:
        assert refused is None
    if row.refused is not None and not row.may_refuse:
        assert refused is not None
        assert re.search(row.refused, refused)
    if refused is not None and not frames:
        return
    reference = decode(path, row.stream, row.reads)
    check_counts(row, frames, reference, refused)
    check_times(row, frames, reference)
    if row.pixels is not None:
        check_pixels(row, frames, reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "threads"),
    [pytest.param(row, n, id=f"{row.name}-{n}") for row in ROWS.values() for n in row.threads],
)
def test_any_number_of_threads_gives_the_same_frames(
    row: Row, threads: int, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pick(*args: Any) -> Any:
        stream = pick_stream(*args)
        stream.codec_context.thread_count = threads
        return stream

    path = build(row, ROWS, corpus)
    expected, refused = read(path)
    monkeypatch.setattr("motserve.video.file.pick_stream", pick)
    frames, refused_too = read(path)
    assert refused_too == refused
    assert [frame.timestamp for frame in frames] == [frame.timestamp for frame in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, expected, strict=True))


def check_counts(row: Row, frames: list[Frame], reference: Reference, refused: str | None) -> None:
    expected = {row.count} if row.count is not None else {len(reference.times), len(reference.images)}
    assert len(frames) in expected
    height, width = reference.images.shape[1:3]
    assert {frame.image.shape for frame in frames} == {(*(row.size or (width, height))[::-1], 3)}
    assert {frame.image.dtype for frame in frames} == {np.dtype(np.uint8)}


def check_times(row: Row, frames: list[Frame], reference: Reference) -> None:
    times = [frame.timestamp for frame in frames]
    assert times[0] == 0
    assert all(b > a for a, b in pairwise(times))
    if row.times is not None:
        expected = row.times(times)
    elif len(reference.times) == len(times):
        assert reference.times[0] is not None
        expected = [
            time if said is None else said - reference.times[0]
            for time, said in zip(times, reference.times, strict=True)
        ]
    else:
        return
    assert times == pytest.approx(expected, abs=max(reference.tick / 2, 0.0005) + 1e-9)


def check_pixels(row: Row, frames: list[Frame], reference: Reference) -> None:
    """Releases of FFmpeg convert colours with different rounding, and spread colour over pixels in different ways."""
    for frame, image in zip(frames, reference.images, strict=True):
        difference = np.abs(frame.image.astype(np.int16) - image)
        assert difference.mean() <= row.pixels, f"frame {frame.index}"
        assert difference.max() <= row.peak, f"frame {frame.index}"
        others = reference.images[max(0, frame.index - 1) : frame.index + 2]
        nearest = min(np.abs(frame.image.astype(np.int16) - other).mean() for other in others)
        assert difference.mean() <= nearest, f"frame {frame.index} is another one"
