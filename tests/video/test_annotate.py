from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from motserve.config import AnnotationConfig, VideoConfig
from motserve.errors import InvalidData
from motserve.types import TrackedFrame, Tracks
from motserve.video import VideoWriter, annotate_video, open_video

CONFIG = VideoConfig(crf=4, preset="ultrafast", annotation=AnnotationConfig(trail_s=0, status_corner="none"))
PERSON = {0: "person"}


def tracked(index: int, rows: list[tuple[int, tuple[float, float, float, float]]]) -> TrackedFrame:
    identities = np.array([identity for identity, _ in rows], np.int64)
    boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
    zeros = np.zeros(len(rows), np.int64)
    tracks = Tracks(identities, boxes, np.full(len(rows), 0.9, np.float32), zeros, zeros)
    return TrackedFrame(index, index / 10, tracks, identities)


def black(width: int = 320, height: int = 240) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def make_source(path: Path, count: int) -> Path:
    with VideoWriter(path, 160, 120, CONFIG, 10) as writer:
        for i in range(count):
            writer.write(black(160, 120), i / 10 + (i > 3) * 0.35)
    return path


def test_annotated_video_has_the_same_frames_and_times(tmp_path: Path) -> None:
    source = make_source(tmp_path / "in.mp4", 8)
    seen: list[tuple[int, int | None]] = []

    def frames() -> Iterator[TrackedFrame]:
        for i in (0, 1, 5):
            assert len(seen) >= i - 4, "frames are requested as the video goes on, not all at once"
            yield tracked(i, [(3, (40, 30, 80, 100))])

    target = tmp_path / "out.mp4"
    written = annotate_video(
        source, frames(), target, CONFIG, PERSON, progress=lambda done, total: seen.append((done, total))
    )
    assert written == 8
    assert seen == [(i, 8) for i in range(1, 9)]
    with open_video(source, CONFIG) as a, open_video(target, CONFIG) as b:
        for before, after in zip(a.frames(), b.frames(), strict=True):
            assert after.timestamp == pytest.approx(before.timestamp, abs=1e-5)
            assert (after.image.max() > 100) == (after.index in (0, 1, 5))


@pytest.mark.parametrize(("indices", "reason"), [((0, 9), "frame 9"), ((2, 1), "not in order")])
def test_tracks_that_do_not_belong_to_the_video_are_refused(
    tmp_path: Path, indices: tuple[int, ...], reason: str
) -> None:
    source = make_source(tmp_path / "in.mp4", 4)
    frames = [tracked(i, [(1, (40, 30, 80, 100))]) for i in indices]
    with pytest.raises(InvalidData, match=reason):
        annotate_video(source, frames, tmp_path / "out.mp4", CONFIG, PERSON)
    assert list(tmp_path.iterdir()) == [source]


def test_frames_without_tracks_show_the_time_and_nobody(tmp_path: Path) -> None:
    source = make_source(tmp_path / "in.mp4", 3)
    annotate_video(source, [tracked(1, [(1, (40, 30, 80, 100))])], tmp_path / "out.mp4", VideoConfig(), PERSON)
    with open_video(tmp_path / "out.mp4", CONFIG) as video:
        assert all(frame.image[:16, :60].max() > 150 for frame in video.frames())
