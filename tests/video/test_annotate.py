from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from motserve.config import VideoConfig
from motserve.errors import InvalidData
from motserve.types import TrackedFrame, Tracks
from motserve.video import Annotator, VideoWriter, annotate_video, colour_of, draw, open_video

CONFIG = VideoConfig(crf=4, preset="ultrafast")
PERSON = {0: "person"}


def tracked(index: int, rows: list[tuple[int, tuple[float, float, float, float]]]) -> TrackedFrame:
    identities = np.array([identity for identity, _ in rows], np.int64)
    boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
    zeros = np.zeros(len(rows), np.int64)
    tracks = Tracks(identities, boxes, np.full(len(rows), 0.9, np.float32), zeros, zeros)
    return TrackedFrame(index, index / 10, tracks, identities)


def black(width: int = 320, height: int = 240) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def has_colour(image: np.ndarray, identity: int) -> bool:
    return bool((image == np.array(colour_of(identity), np.uint8)).all(-1).any())


def test_draw_copies_the_image_and_uses_the_colour_of_the_identity() -> None:
    image = black()
    drawn = draw(image, tracked(0, [(7, (100, 80, 160, 200))]), PERSON)
    assert not image.any()
    assert has_colour(drawn, 7)
    assert tuple(drawn[200, 130]) == colour_of(7)
    assert not drawn[210:].any()
    assert not has_colour(drawn, 8)


def test_a_frame_without_tracks_is_drawn_unchanged() -> None:
    image = np.full((240, 320, 3), 9, np.uint8)
    assert np.array_equal(draw(image, tracked(0, []), PERSON), image)


def test_boxes_far_outside_the_picture_are_drawn_in_part() -> None:
    rows = [(1, (-1e9, -1e9, 50, 60)), (2, (-500, -500, -400, -400)), (3, (300, 200, 1e12, 1e12))]
    drawn = draw(black(), tracked(0, rows), PERSON)
    assert has_colour(drawn, 1)
    assert has_colour(drawn, 3)


def test_class_names_are_shown_when_there_are_several() -> None:
    frame = tracked(0, [(1, (40, 100, 60, 200))])
    one, two = draw(black(), frame, PERSON), draw(black(), frame, {0: "person", 1: "bicycle"})
    assert two.astype(bool).sum() > one.astype(bool).sum()


def test_colours_are_stable_and_distinct() -> None:
    assert colour_of(1) == (255, 165, 128)
    colours = np.array([colour_of(i) for i in range(1, 51)], int)
    distance = np.abs(colours[:, None] - colours[None]).max(-1)
    assert distance[~np.eye(50, dtype=bool)].min() >= 20


def test_line_widths_grow_with_the_image() -> None:
    small = draw(black(320, 240), tracked(0, [(1, (100, 80, 160, 200))]), PERSON)
    large = draw(black(3200, 2400), tracked(0, [(1, (1000, 800, 1600, 2000))]), PERSON)
    assert small[190:215, 130].any(-1).sum() < large[1900:2150, 1300].any(-1).sum()


def test_trails_show_recent_positions_only() -> None:
    annotator = Annotator(PERSON, trail_s=0.5)
    for i in range(4):
        drawn = annotator.draw(black(), tracked(i, [(1, (20 + 40 * i, 60, 40 + 40 * i, 160))]))
    assert drawn[160, 60].any()
    assert annotator.draw(black(), tracked(5, []))[160, 130].any()
    assert not annotator.draw(black(), tracked(50, [])).any()


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
        annotate_video(source, frames, tmp_path / "out.mp4", CONFIG, PERSON, trail_s=0)
    assert list(tmp_path.iterdir()) == [source]
