"""`motserve.Tracker`: which detections it takes, and how it refuses the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import motserve
from motserve.config import ByteTrackConfig, load_config
from motserve.errors import InvalidConfig, InvalidData
from motserve.types import Tracks

ROWS = [[10.0, 20.0, 50.0, 120.0, 0.9, 0.0], [200.0, 20.0, 240.0, 120.0, 0.8, 2.0]]
ARRAY = np.array(ROWS)


def track(detections: Any, **arguments: Any) -> list[Tracks]:
    tracker = motserve.Tracker(**arguments)
    return [tracker.update(detections, timestamp=frame / 25) for frame in range(3)]


def columns(tracks: list[Tracks]) -> list[Any]:
    return [
        (each.ids.tolist(), each.boxes.tolist(), each.classes.tolist(), each.detections.tolist()) for each in tracks
    ]


@pytest.mark.parametrize(
    "detections",
    [
        ROWS,
        tuple(map(tuple, ROWS)),
        ARRAY.astype(np.float32),
        ARRAY.astype(np.float16),
        motserve.Detections(ARRAY[:, :4], ARRAY[:, 4], ARRAY[:, 5]),
        motserve.Detections([row[:4] for row in ROWS], [0.9, 0.8], [0, 2]),  # type: ignore[arg-type]
        SimpleNamespace(xyxy=ARRAY[:, :4], confidence=ARRAY[:, 4], class_id=np.array([0, 2])),
    ],
)
def test_every_form_of_the_same_detections_gives_the_same_tracks(detections: Any) -> None:
    (ids, _, classes, rows), *_ = expected = columns(track(ARRAY))
    assert (ids, classes, rows) == ([1, 2], [0, 2], [0, 1])
    got = columns(track(detections))
    assert [(each[0], each[2], each[3]) for each in got] == [(each[0], each[2], each[3]) for each in expected]
    np.testing.assert_allclose([each[1] for each in got], [each[1] for each in expected], atol=0.1)


def test_detections_of_supervision_are_taken() -> None:
    supervision = pytest.importorskip("supervision")
    given = supervision.Detections(xyxy=ARRAY[:, :4], confidence=ARRAY[:, 4], class_id=np.array([0, 2]))
    assert columns(track(given)) == columns(track(ARRAY))
    assert len(track(supervision.Detections.empty())[-1]) == 0


def test_without_a_class_it_is_0() -> None:
    assert track(ARRAY[:, :5])[-1].classes.tolist() == [0, 0]
    without = SimpleNamespace(xyxy=ARRAY[:, :4], confidence=ARRAY[:, 4], class_id=None)
    assert track(without)[-1].classes.tolist() == [0, 0]


@pytest.mark.parametrize(
    "detections", [[], np.empty((0, 6)), np.empty((0, 5)), np.empty(0), motserve.Detections.empty()]
)
def test_a_frame_without_detections_is_a_frame(detections: Any) -> None:
    assert [len(tracks) for tracks in track(detections)] == [0, 0, 0]


def changed(column: int, value: float) -> Any:
    rows = ARRAY.copy()
    rows[1, column] = value
    return rows


@pytest.mark.parametrize(
    ("detections", "said"),
    [
        (changed(0, np.nan), "detection 1 has a box that is not finite"),
        (changed(2, np.inf), "detection 1 has a box that is not finite"),
        (changed(0, 300), "detection 1 has a box without area; x2 must be above x1"),
        (changed(3, 20), "detection 1 has a box without area"),
        (changed(2, 1e30), "detection 1 has a box that reaches beyond 1000000 pixels"),
        (changed(4, np.nan), "detection 1 has a confidence that is not in"),
        (changed(4, 80), r"detection 1 has a confidence that is not in \[0, 1\]: 200, 20, 240, 120, 80, 2"),
        (changed(5, 0.5), "detection 1 has a class that is not a whole number"),
        (changed(5, np.nan), "detection 1 has a class that is not a whole number"),
        (changed(5, 1e300), "detection 1 has a class that is not a whole number"),
        (ROWS[0], r"must have the shape \(n, 6\).*not \(6,\)"),
        (ARRAY[:, :4], r"must have the shape \(n, 6\).*not \(2, 4\)"),
        (np.zeros((1, 2, 6)), r"not \(1, 2, 6\)"),
        ([[1, 2, 3], [4]], "must be an array or a list of numbers"),
        ([["a"] * 6], "must be an array or a list of numbers"),
        (None, "must be an array or a list of numbers"),
        (object(), "must be an array or a list of numbers"),
        (ARRAY.astype(complex), "must be an array or a list of numbers"),
        (SimpleNamespace(xyxy=ARRAY[:, :4], confidence=None), "have no confidence"),
        (SimpleNamespace(xyxy=ARRAY[:, :4], confidence=[0.9]), "2 boxes, but confidence"),
        (SimpleNamespace(xyxy=ARRAY, confidence=[0.9]), r"xyxy must have the shape \(n, 4\)"),
        (motserve.Detections(changed(0, np.nan)[:, :4], ARRAY[:, 4], ARRAY[:, 5]), "detection 1 .* not finite"),
    ],
)
def test_other_detections_are_refused_in_words_and_change_nothing(detections: Any, said: str) -> None:
    tracker = motserve.Tracker()
    tracker.update(ARRAY, 0.0)
    with pytest.raises(InvalidData, match=said):
        tracker.update(detections, 0.04)
    assert tracker.update(ARRAY, 0.04).ids.tolist() == [1, 2]


@pytest.mark.parametrize("timestamp", [np.nan, np.inf, 10**400, "0.04", None, True, 0.0, -1])
def test_a_timestamp_that_does_not_increase_is_refused(timestamp: Any) -> None:
    tracker = motserve.Tracker()
    tracker.update(ARRAY, 0.0)
    with pytest.raises(InvalidData, match="timestamp"):
        tracker.update(ARRAY, timestamp)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tracker": "deepsort"}, "deepsort with this configuration compares appearance"),
        ({"tracker": "strongsort"}, "use motserve.track, or another tracker"),
        ({"tracker": "kalman"}, "there is no tracker 'kalman'; choose bytetrack, botsort"),
        ({"tracker": "none.yaml"}, "cannot read configuration file none.yaml"),
        ({"tracker": 3}, "tracker must be the name of a tracker or a YAML file, not 3"),
        ({"rate_hz": 0}, "rate_hz must be a number of Hz above 0, not 0"),
        ({"rate_hz": "25"}, "rate_hz must be a number of Hz"),
        ({"overrides": ["tracker.lost_buffer=3"]}, "tracker.lost_buffer of bytetrack"),
        ({"overrides": {"tracker.lost_buffer_s": 3}}, "overrides must be texts"),
        ({"config": 7}, "must be a YAML file or a mapping, not 7"),
        ({"config": ""}, "a path cannot be empty"),
    ],
)
def test_other_settings_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        motserve.Tracker(**arguments)


def test_a_tracker_is_chosen_by_name_file_or_configuration(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("tracker: {name: sort, confirm_hits: 1}")
    (tmp_path / "other.yaml").write_text("detector: {confidence: 0.2}")
    assert motserve.Tracker().config.tracker == ByteTrackConfig()
    assert motserve.Tracker(tracker="ocsort").config.tracker.name == "ocsort"
    assert motserve.Tracker(tracker=file).config.tracker.name == "sort"
    assert motserve.Tracker(file, overrides="tracker.confirm_hits=2").config.tracker.name == "sort"
    config = load_config({"tracker": {"lost_buffer_s": 7}})
    assert motserve.Tracker(config, tracker="bytetrack").config.tracker == config.tracker
    assert motserve.Tracker(config, tracker="botsort").config.tracker.name == "botsort"
    with pytest.raises(InvalidConfig, match="has no section `tracker`"):
        motserve.Tracker(tracker=tmp_path / "other.yaml")
    with pytest.raises(InvalidConfig, match="a path cannot be empty"):
        load_config([""])
