from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tracker_streams import HARD, RATE, assert_same, make, person, track_stream, track_with_embeddings

from motserve.config import AppearanceConfig, BotSortConfig, ConfidenceScalingConfig, load_config
from motserve.lab.benchmark.streams import crowd_stream
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import VideoTracker
from motserve.tracking import BotSort
from motserve.types import Cues, Detections, FloatArray, Image

WITH_APPEARANCE = BotSortConfig(appearance=AppearanceConfig())
RED, BLUE = np.eye(2, 4, dtype=np.float32)


def shift(x: float, y: float = 0.0) -> Cues:
    return Cues(np.array([[1.0, 0, x], [0, 1, y]]))


def with_embeddings(*embeddings: FloatArray) -> Cues:
    return Cues(rows=np.arange(len(embeddings)), embeddings=np.stack(embeddings))


# --- camera -----------------------------------------------------------------------------------------------------------


def test_known_camera_motion_keeps_the_track() -> None:
    for cues, expected in ((Cues(), 2), (shift(90), 1)):
        tracker = BotSort(BotSortConfig())
        track_stream(tracker, [person(100)] * 10)
        tracker.update(person(190), 10 / RATE, cues)
        assert tracker.update(person(190), 11 / RATE).ids.tolist() == [expected]


def test_lost_and_unconfirmed_tracks_are_compensated_too() -> None:
    tracker = BotSort(BotSortConfig())
    track_stream(tracker, [person(100)] * 10)
    for frame in range(10, 20):
        tracker.update(Detections.empty(), frame / RATE, shift(30))
    assert tracker.update(person(400), 20 / RATE).ids.tolist() == [1]

    tracker = BotSort(BotSortConfig())
    track_stream(tracker, [Detections.empty(), person(100)])
    assert tracker.update(person(190), 2 / RATE, shift(90)).ids.tolist() == [1]


def test_a_static_camera_changes_nothing() -> None:
    stream = crowd_stream(15, 60, 3, HARD)
    still, moved = BotSort(BotSortConfig()), BotSort(BotSortConfig())
    answers = [moved.update(detections, index / RATE, shift(0)) for index, detections in enumerate(stream)]
    assert_same(answers, track_stream(still, stream))


# --- appearance -------------------------------------------------------------------------------------------------------


def pair(x: float, gap: float = 10) -> Detections:
    """Two people side by side, each nearer than half a box to the other."""
    return make([[x, 100, x + 40, 200], [x + gap, 100, x + gap + 40, 200]], [0.9, 0.9])


def test_similar_appearance_is_matched_although_another_box_is_nearer() -> None:
    """Two people swap places between two frames; motion alone keeps each track where it was."""
    only_equal = BotSortConfig(appearance=AppearanceConfig(max_distance=0.0))
    for config, expected in ((BotSortConfig(), [1, 2]), (WITH_APPEARANCE, [2, 1]), (only_equal, [2, 1])):
        tracker = BotSort(config)
        for index in range(10):
            tracker.update(pair(100), index / RATE, with_embeddings(RED, BLUE))
        tracks = tracker.update(pair(100), 10 / RATE, with_embeddings(BLUE, RED))
        assert tracks.ids[np.argsort(tracks.detections)].tolist() == expected


@pytest.mark.parametrize("change", [{"max_distance": 0.0}, {"max_iou_distance": 0.1}])
def test_appearance_counts_only_for_near_and_similar_pairs(change: dict[str, float]) -> None:
    other = np.array([0.6, 0.8, 0, 0], np.float32)
    tracker = BotSort(BotSortConfig(appearance=AppearanceConfig(**change)))
    for index in range(10):
        tracker.update(pair(100), index / RATE, with_embeddings(RED, BLUE))
    tracks = tracker.update(pair(100), 10 / RATE, with_embeddings(other, RED))
    assert tracks.ids[np.argsort(tracks.detections)].tolist() == [1, 2]


def test_only_confident_detections_are_embedded_and_only_where_configured() -> None:
    detections = make([[0, 0, 9, 9]] * 4, [0.9, 0.3, 0.6, 0.59])
    assert BotSort(WITH_APPEARANCE).rows_to_embed(detections).tolist() == [0, 2]
    assert BotSort(BotSortConfig()).rows_to_embed(detections).tolist() == []


def test_the_confidence_from_which_detections_are_embedded_is_scaled() -> None:
    """At first the level is 0.8, and 0.6 x 0.8 / 0.75 = 0.64."""
    config = BotSortConfig(appearance=AppearanceConfig(), confidence_scaling=ConfidenceScalingConfig(reference=0.75))
    detections = make([[0, 0, 9, 9]] * 3, [0.9, 0.63, 0.65])
    assert BotSort(config).rows_to_embed(detections).tolist() == [0, 2]


@pytest.mark.parametrize("cut", [0, 1, 37])
def test_a_restored_state_has_the_embeddings(cut: int) -> None:
    stream = crowd_stream(20, 60, 4, HARD)
    original = BotSort(WITH_APPEARANCE)
    track_with_embeddings(original, stream[:cut])
    state = original.state_dict()
    future = track_with_embeddings(original, stream[cut:], cut)
    restored = BotSort(WITH_APPEARANCE)
    restored.update(pair(100), 0.0, with_embeddings(RED, BLUE))
    restored.load_state_dict(state)
    assert_same(track_with_embeddings(restored, stream[cut:], cut), future)


def test_embeddings_stay_of_unit_length() -> None:
    tracker = BotSort(WITH_APPEARANCE)
    track_with_embeddings(tracker, crowd_stream(20, 60, 5, HARD))
    embeddings = tracker.state_dict()["embeddings"]
    length = np.linalg.norm(embeddings[:, ~np.isnan(embeddings[0])], axis=0)
    assert length.size
    np.testing.assert_allclose(length, 1, rtol=1e-5)


# --- through the pipeline ---------------------------------------------------------------------------------------------


def test_the_pipeline_gives_the_tracker_pictures_and_embeddings() -> None:
    config = load_config([{"tracker": {"name": "botsort", "appearance": {}}, "reid": {"policy": "off"}}])
    assert config.needs_embeddings
    stats = PipelineStats()
    video_tracker = VideoTracker(config, stats, RATE)
    texture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    asked: list[Any] = []

    async def embed(boxes: FloatArray) -> FloatArray:
        asked.append(boxes)
        return np.stack([RED] * len(boxes))

    def picture(offset: int) -> Image:
        return np.ascontiguousarray(texture[:, offset : offset + 400])

    async def walk() -> list[int]:
        for index in range(10):
            await video_tracker.advance(index, index / RATE, person(200), embed, lambda: picture(0))
        # the camera turns to the right: everything moves 45 pixels to the left
        (frame,) = await video_tracker.advance(10, 10 / RATE, person(155), embed, lambda: picture(45))
        ids: list[int] = frame.tracks.ids.tolist()
        return ids

    assert asyncio.run(walk()) == [1]
    assert len(asked) == stats.embeddings == 11


def test_half_of_the_cosine_distance_is_set_against_overlap() -> None:
    """A distance of 0.2 counts as 0.1: less than another's cost by overlap of 0.15, which 0.2 would not be."""
    a, detection, b = ([left, 100.0, left + 40, 200.0] for left in (100.0, 103.24, 114.85))
    near_blue = np.array([0, 0.8, 0.6, 0], np.float32)
    tracker = BotSort(BotSortConfig(appearance=AppearanceConfig(), fuse_score=False))
    for index in range(30):
        tracker.update(make([a, b], [0.9, 0.9]), index / RATE, with_embeddings(RED, BLUE))
    tracks = tracker.update(make([detection], [0.9]), 30 / RATE, with_embeddings(near_blue))
    assert tracks.ids.tolist() == [2]


@pytest.mark.parametrize(("fuse_score", "expected"), [(False, 0), (True, 1)])
def test_scores_are_fused_where_appearance_does_not_count(fuse_score: bool, expected: int) -> None:
    """An IoU of 36 / 44 with confidence 0.7 against one of 34 / 46 with 0.95; both look like another person."""
    tracker = BotSort(BotSortConfig(appearance=AppearanceConfig(), fuse_score=fuse_score))
    for index in range(10):
        tracker.update(person(100), index / RATE, with_embeddings(RED))
    both = make([[104, 100, 144, 200], [106, 100, 146, 200]], [0.7, 0.95])
    assert tracker.update(both, 10 / RATE, with_embeddings(BLUE, BLUE)).detections.tolist() == [expected]
