from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from motserve.config import AnnotationConfig
from motserve.types import NO_DETECTION, Image, Link, TrackedFrame, Tracks
from motserve.video import AnnotationState, Annotator, colour_of, draw

PERSON = {0: "person"}
PLAIN = AnnotationConfig(status_corner="none")
Box = tuple[float, float, float, float]


def tracked(index: int, rows: Sequence[tuple[int, Box]], returned: Sequence[int] = ()) -> TrackedFrame:
    identities = np.array([identity for identity, _ in rows], np.int64)
    boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
    zeros = np.zeros(len(rows), np.int64)
    tracks = Tracks(identities + 100, boxes, np.full(len(rows), 0.9, np.float32), zeros, zeros)
    links = tuple(Link(identity + 100, identity, 1, 0.2, 4.0, 1.0) for identity in returned)
    return TrackedFrame(index, index / 10, tracks, identities, links)


def black(width: int = 320, height: int = 240) -> Image:
    return np.zeros((height, width, 3), np.uint8)


def is_colour(image: Image, identity: int) -> np.ndarray:
    return np.asarray((image == np.array(colour_of(identity), np.uint8)).all(-1))


def line_width(image: Image, column: int) -> int:
    """Return the height of the lowest line in a column of pixels."""
    rows = np.flatnonzero(image[:, column].any(-1))[::-1]
    breaks = np.flatnonzero(np.diff(rows) < -1)
    return int(breaks[0]) + 1 if len(breaks) else len(rows)


def test_draw_copies_the_image_and_uses_the_colour_of_the_identity() -> None:
    image = black()
    drawn = draw(image, tracked(0, [(7, (100, 80, 160, 200))]), PERSON)
    assert not image.any()
    assert is_colour(drawn, 7)[200, 130]
    assert not drawn[210:].any()
    assert not is_colour(drawn, 8).any()


def test_a_frame_without_tracks_or_status_is_drawn_unchanged() -> None:
    image = np.full((240, 320, 3), 9, np.uint8)
    assert np.array_equal(draw(image, tracked(0, []), PERSON, PLAIN), image)


def test_boxes_far_outside_the_picture_are_drawn_in_part() -> None:
    rows = [(1, (-1e9, -1e9, 50, 60)), (2, (-500, -500, -400, -400)), (3, (300, 200, 1e12, 1e12))]
    drawn = draw(black(), tracked(0, rows), PERSON)
    assert is_colour(drawn, 1).any()
    assert is_colour(drawn, 3).any()
    assert not is_colour(drawn, 2).any()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (40, 8), (64, 48)])
def test_any_size_of_picture_can_be_drawn_into(width: int, height: int) -> None:
    rows: list[tuple[int, Box]] = [(i, (-5.0 * i, 2, 9.0 * i, 90)) for i in range(1, 9)]
    assert draw(black(width, height), tracked(0, rows, [1, 2]), PERSON).shape == (height, width, 3)


@pytest.mark.parametrize(
    ("width", "height", "expected", "doubled"),
    [
        (320, 240, 2, 4),
        (854, 480, 2, 4),
        (1280, 720, 3, 7),
        (1920, 1080, 5, 10),
        (1080, 1920, 5, 10),
        (3840, 2160, 10, 20),
    ],
)
def test_lines_and_labels_grow_with_the_shorter_side_of_the_picture(
    width: int, height: int, expected: int, doubled: int
) -> None:
    image, box = black(width, height), (0.25 * width, 0.5 * height, 0.75 * width, 0.9 * height)
    drawn = draw(image, tracked(0, [(1, box)]), PERSON, PLAIN)
    assert line_width(drawn, width // 2) == expected
    twice = draw(image, tracked(0, [(1, box)]), PERSON, PLAIN.model_copy(update={"line_scale": 2.0, "text_scale": 2.0}))
    assert line_width(twice, width // 2) == doubled
    column = round(0.25 * width) + 4 * expected
    tag = [int(np.flatnonzero(image[:, column].any(-1))[0]) for image in (drawn, twice)]
    assert box[1] - tag[1] > 1.7 * (box[1] - tag[0]) > 0


def test_lines_do_not_cover_small_people() -> None:
    drawn = draw(black(3840, 2160), tracked(0, [(1, (1000, 1000, 1012, 1030))]), PERSON, PLAIN)
    assert drawn[1003:1028, 1003:1010].any(-1).mean() == 0


def test_labels_cover_neither_one_another_nor_the_status() -> None:
    rows: list[tuple[int, Box]] = [(i, (100 + 3 * i, 40, 200 + 3 * i, 200)) for i in range(1, 5)]
    one_by_one = [draw(black(), tracked(0, [row]), PERSON, PLAIN) for row in rows]
    together = draw(black(), tracked(0, rows), PERSON, PLAIN)
    for i, alone in zip(range(1, 5), one_by_one, strict=True):
        # at least the area of the tag, which is opaque, has the colour of the identity
        assert is_colour(together[:230], i).sum() > 0.3 * is_colour(alone, i).sum()
    status = draw(black(), tracked(0, []), PERSON)
    height = int(np.any(status, axis=(1, 2)).sum())
    count = draw(black(), tracked(0, [(1, (0, 0, 60, 100))]), PERSON)
    assert not is_colour(count[:height, : height * 3], 1).any()


def test_a_shifted_label_is_joined_to_its_box() -> None:
    rows: list[tuple[int, Box]] = [(i, (150, 100, 160, 130)) for i in range(1, 13)]
    drawn = draw(black(), tracked(0, rows), PERSON, PLAIN)
    for i in range(1, 13):
        _, _, stats, _ = cv2.connectedComponentsWithStats(is_colour(drawn, i).astype(np.uint8))
        left, top, width, height = stats[1:][stats[1:, cv2.CC_STAT_AREA].argmax()][:4].tolist()
        assert width > 20, f"the label of {i} is not shown"
        # the label, or the line that starts at it and may lie under another label
        assert left - 25 <= 160, i
        assert left + width + 25 >= 150, i
        assert top - 120 <= 130
        assert top + height + 120 >= 100


def test_the_label_names_the_class_where_there_are_several() -> None:
    frame = tracked(0, [(1, (40, 100, 60, 200))])
    one, two = (draw(black(), frame, names, PLAIN) for names in (PERSON, {0: "person", 1: "bicycle"}))
    assert is_colour(two, 1).sum() > is_colour(one, 1).sum()


def test_confidence_is_shown_on_request() -> None:
    frame = tracked(0, [(1, (40, 100, 60, 200))])
    shown = draw(black(), frame, PERSON, PLAIN.model_copy(update={"show_confidence": True}))
    assert is_colour(shown, 1).sum() > is_colour(draw(black(), frame, PERSON, PLAIN), 1).sum()


def test_a_predicted_box_is_thin() -> None:
    frame = tracked(0, [(1, (400, 400, 800, 1000))])
    predicted = replace(frame, tracks=replace(frame.tracks, detections=np.array([NO_DETECTION])))
    measured, thin = (draw(black(1920, 1080), f, PERSON, PLAIN) for f in (frame, predicted))
    assert line_width(thin, 600) == 1 < line_width(measured, 600)


def test_a_returned_person_is_marked_for_some_seconds() -> None:
    config = AnnotationConfig(returned_s=0.5, trail_s=0, status_corner="none")
    box = (100.0, 100.0, 180.0, 200.0)
    annotator = Annotator(PERSON, config)

    def borders(index: int, returned: Sequence[int] = ()) -> int:
        drawn = annotator.draw(black(), tracked(index, [(4, box)], returned))
        return int((np.diff(drawn[180:225, 140].any(-1).astype(int)) == 1).sum())

    assert borders(0) == 1
    assert borders(1, [4]) == borders(2) == borders(5) == 2
    assert borders(6) == 1
    marked, plain = (
        draw(black(), tracked(0, [(4, box)], returned), PERSON, config)[:95].any(-1).sum() for returned in ([4], [])
    )
    assert marked > plain + 100, "the label has an arrow"


def test_the_mark_follows_the_identity_to_which_the_track_was_given_in_the_end() -> None:
    frame = tracked(0, [(4, (100, 100, 180, 200))], [4])
    merged = replace(frame, identities=np.array([2]))
    assert AnnotationState().advance(merged, AnnotationConfig()).returned == {2: 0.0}
    assert AnnotationState().advance(merged, AnnotationConfig(returned_s=0)).returned == {}


@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_time_and_count_are_readable_in_their_corner(corner: str, value: int) -> None:
    config = AnnotationConfig.model_validate({"status_corner": corner})
    image = np.full((480, 854, 3), value, np.uint8)
    drawn = draw(image, tracked(0, [(1, (400, 200, 440, 300))]), PERSON, config)
    vertical, _, horizontal = corner.partition("-")
    rows = slice(0, 18) if vertical == "top" else slice(-18, None)
    columns = slice(0, 60) if horizontal == "left" else slice(-60, None)
    tag = drawn[rows, columns].astype(int)
    assert tag.max() - tag.min() > 180
    changed = (drawn != image).any(-1)
    changed[170:310, 390:450] = False
    changed[rows, :200] = changed[rows, -200:] = False
    assert changed.sum() < 854 * 3


def test_the_status_changes_with_time_and_count_only() -> None:
    def status(index: int, count: int, names: dict[int, str] = PERSON) -> Image:
        rows: list[tuple[int, Box]] = [(i, (10.0 * i, 120, 10 * i + 9, 150)) for i in range(1, count + 1)]
        return draw(black(), tracked(index, rows), names)[:16]

    assert np.array_equal(status(3, 2), status(9, 2))
    pictures = [
        status(3, 2), status(13, 2), status(3, 1), status(3, 0), status(3, 2, {0: "car"}),
        status(3, 2, {0: "car", 1: "person"}),
    ]  # fmt: skip
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_trails_show_recent_positions_only() -> None:
    annotator = Annotator(PERSON, AnnotationConfig(trail_s=0.5, status_corner="none"))
    for i in range(4):
        drawn = annotator.draw(black(), tracked(i, [(1, (20 + 40 * i, 60, 40 + 40 * i, 160))]))
    assert drawn[160, 60].any()
    assert annotator.draw(black(), tracked(5, []))[160, 130].any()
    assert not annotator.draw(black(), tracked(50, [])).any()


def test_an_earlier_frame_can_be_drawn_again_after_later_ones() -> None:
    config, state, states = AnnotationConfig(), AnnotationState(), []
    frames = [tracked(i, [(1, (20 + 30 * i, 60, 40 + 30 * i, 160))], [1] if i == 2 else ()) for i in range(6)]
    for frame in frames:
        state = state.advance(frame, config)
        states.append(state)
    annotator = Annotator(PERSON, config)
    for frame, state in zip(frames, states, strict=True):
        assert np.array_equal(annotator.draw(black(), frame), draw(black(), frame, PERSON, config, state))


def test_trails_are_bounded_in_time_and_points() -> None:
    config, state = AnnotationConfig(trail_s=35.05), AnnotationState()
    for i in range(700):
        state = state.advance(tracked(i, [(i // 350, (10, 10, 20, 20))]), config)
    assert {identity: len(trail) for identity, trail in state.trails.items()} == {0: 1, 1: 256}
