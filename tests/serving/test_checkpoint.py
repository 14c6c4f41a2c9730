"""What a session leaves behind, and that whoever goes on from it does as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from identity_crowds import RATE_HZ, Crowd, settings
from tracker_streams import EVERY, HARD, RATE

import motserve
from motserve.base import State, merge_states, substate
from motserve.config import AppearanceConfig, BotSortConfig, CameraConfig, Config, IdentitiesConfig, load_config
from motserve.errors import UnfitCheckpoint
from motserve.lab.benchmark.streams import crowd_stream
from motserve.people.identity_summaries import IdentitySummaries
from motserve.pipeline import PipelineStats, VideoTracker
from motserve.pipeline.frame_buffer import FrameBuffer, ResolvedFrame
from motserve.reid.linker import IdentityLinker
from motserve.serving.session.checkpoint import Checkpoint, CheckpointStore
from motserve.serving.stores import ArtifactStore
from motserve.types import Detections, EmbeddedCrops, FloatArray, Image, TrackedFrame

FRAMES = 60
TRACKERS = {**EVERY, "botsort-looking": BotSortConfig(appearance=AppearanceConfig(), camera=CameraConfig(downscale=1))}

BRIEF = {"lost_buffer_s": 0.1}


def configure(name: str) -> Config:
    """Identities that are looked at often and wait to be decided, above every tracker."""
    reid = {
        "policy": "always",
        "max_distance": 0.5,
        "decision": {"wait_s": 0.4, "num_embeddings": 3, "margin": 0.0},
        "trust": {"min_height": 1, "max_overlap": 1},
    }
    return load_config([{"tracker": {**TRACKERS[name].model_dump(), **BRIEF}, "reid": reid}])


def store(folder: Path, config: Config | None = None) -> CheckpointStore:
    artifacts = ArtifactStore(folder)
    if not artifacts.results("a").parent.exists():
        artifacts.create("a")
    return CheckpointStore(artifacts, "a", config or Config())


class Video:
    """A crowd before a backdrop that shakes, and all that is told of it. For a while nobody is to be seen."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stream = crowd_stream(9, FRAMES, 3, HARD)
        self.stream[12:18] = [Detections.empty()] * 6
        self.backdrop = np.random.default_rng(0).integers(0, 255, (660, 860, 3), np.uint8)
        self.frames: list[TrackedFrame] = []
        self.sightings: list[EmbeddedCrops] = []
        self.begin()

    def begin(self) -> None:
        self.stats = PipelineStats()
        self.book = IdentitySummaries(IdentitiesConfig(max_per_video=4, embeddings_per_identity=2))
        self.video_tracker = VideoTracker(self.config, self.stats, RATE, (800, 600), self.tell)

    def tell(self, seen: EmbeddedCrops) -> None:
        self.sightings.append(seen)
        self.book.add(seen.identities, seen.embeddings, seen.crops, seen.boxes, seen.scores, seen.timestamp)

    def picture(self, index: int) -> Image:
        dx, dy = 20 + index * 7 % 11, 20 + index * 5 % 13
        return np.ascontiguousarray(self.backdrop[dy : dy + 600, dx : dx + 800])

    async def look(self, boxes: FloatArray) -> FloatArray:
        """People look as they are tall, and somewhat different wherever they are."""
        height = boxes[:, 3] - boxes[:, 1]
        looks = np.stack([np.cos(height / 9), np.sin(height / 9), 0.3 * np.cos(boxes[:, 0] / 50)], axis=1)
        return (looks / np.linalg.norm(looks, axis=1, keepdims=True)).astype(np.float32)

    def go_on(self, until: int) -> None:
        async def run() -> None:
            for index in range(self.stats.frames, until):
                self.frames += await self.video_tracker.advance(
                    index, index / RATE, self.stream[index], self.look, lambda index=index: self.picture(index)
                )

        asyncio.run(run())
        if until == FRAMES:
            self.frames += self.video_tracker.finish()

    def state(self) -> State:
        return merge_states(video_tracker=self.video_tracker.state_dict(), book=self.book.state_dict())

    def move(self, state: State) -> None:
        self.begin()
        self.video_tracker.load_state_dict(substate(state, "video_tracker"))
        self.book.load_state_dict(substate(state, "book"))


def assert_equal(one: Any, other: Any) -> None:
    """Compare trees of dataclasses, sequences and arrays, types and shapes of arrays among it."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            assert_equal(getattr(one, name), getattr(other, name))
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


@pytest.mark.parametrize("name", TRACKERS)
def test_who_goes_on_from_a_checkpoint_tracks_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    config = configure(name)
    undisturbed, moved = Video(config), Video(config)
    undisturbed.go_on(FRAMES)
    checkpoints = store(tmp_path, config)
    waited = False
    for attempt, frame in enumerate((0, 1, 7, 20, 23, 33, 59, FRAMES)):
        moved.go_on(frame)
        waited |= len(moved.frames) < frame
        checkpoints.save(attempt, Checkpoint(state=moved.state()))
        loaded = checkpoints.load()
        assert loaded is not None
        moved.move(loaded.state)
    assert sum(len(frame.tracks) for frame in undisturbed.frames) > 40
    assert waited, "no frame was held back when a checkpoint was made"
    assert_equal(moved.frames, undisturbed.frames)
    assert_equal(moved.sightings, undisturbed.sightings)
    assert_equal(moved.stats, undisturbed.stats)
    assert len(undisturbed.book) == 4
    assert_equal(moved.book.summaries(), undisturbed.book.summaries())
    assert moved.book.dropped == undisturbed.book.dropped > 0


def identities(seed: int, every: int | None) -> tuple[list[ResolvedFrame], IdentityLinker]:
    """Give the identities of a random crowd, with new objects now and then."""
    config, size = settings(seed)
    crowd, linker, waiting = Crowd(seed), IdentityLinker(config, size), FrameBuffer()
    released: list[ResolvedFrame] = []
    for index in range(200):
        timestamp = index / RATE_HZ
        tracks = crowd.step()
        rows = linker.plan(tracks, timestamp)
        embeddings = crowd.embeddings(tracks.ids[rows].tolist()) if len(rows) else np.empty((0, 0), np.float32)
        named = linker.link(tracks, timestamp, rows, embeddings)
        shown = np.flatnonzero(named)
        frame = TrackedFrame(index, timestamp, tracks.part(shown), named[shown])
        sighting = None
        if index % 3:
            crops = np.full((len(shown), 4, 2, 3), index, np.uint8)
            looks = np.ones((len(shown), 3), np.float32)
            sighting = EmbeddedCrops(timestamp, named[shown], frame.tracks.boxes, frame.tracks.scores, looks, crops)
        released += waiting.add(frame, linker.decisions(), sighting)
        if every and index % every == 0:
            states = linker.state_dict(), waiting.state_dict()
            linker, waiting = IdentityLinker(config, size), FrameBuffer()
            linker.load_state_dict(states[0])
            waiting.load_state_dict(states[1])
    linker.finish(199 / RATE_HZ)
    return released + waiting.resolve(linker.decisions()), linker


@pytest.mark.parametrize("seed", range(12))
def test_identities_are_the_same_however_often_they_move(seed: int) -> None:
    undisturbed, one = identities(seed, None)
    moved, other = identities(seed, 1 + seed % 4)
    assert_equal(moved, undisturbed)
    assert (one.identities, one.links) == (other.identities, other.links)


def test_within_a_frame_there_is_no_state_to_save() -> None:
    video = Video(configure("bytetrack"))
    video.go_on(5)

    async def broken(boxes: FloatArray) -> FloatArray:
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError):
        asyncio.run(video.video_tracker.advance(5, 5 / RATE, video.stream[5], broken, lambda: video.picture(5)))
    assert not video.video_tracker.is_idle
    with pytest.raises(RuntimeError, match="frame 5 is not finished"):
        video.video_tracker.state_dict()


@pytest.mark.parametrize("name", ["bytetrack", "deepsort", "botsort-looking"])
def test_a_state_of_another_make_is_refused(name: str) -> None:
    video = Video(configure(name))
    video.go_on(10)
    state = video.video_tracker.state_dict()
    other = VideoTracker(configure("ocsort"), PipelineStats(), RATE, (800, 600))
    with pytest.raises(ValueError, match="not written by this tracker"):
        other.load_state_dict(state)
    for key in state:
        with pytest.raises(ValueError, match="state"):
            Video(video.config).video_tracker.load_state_dict({k: v for k, v in state.items() if k != key})


FULL = Checkpoint(
    frames_written=7,
    bytes_written=0,
    seconds=1.5,
    names={"detector": ("models:/people/2", "bundled"), "reid": ("bundled",)},
    weights={"detector": {"name": "people", "sha256": "ab"}},
    models={"detector": {"name": "older"}, "reid": None, "switches": [{"frame": 3, "detector": {"name": "people"}}]},
    state={
        "video_tracker/ids": np.arange(5),
        "video_tracker/tracker": np.array("ByteTrack"),
        "book/x": np.empty((0, 3)),
    },
)


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    checkpoints = store(tmp_path)
    assert checkpoints.load() is None
    size = checkpoints.save(0, FULL)
    assert size == ArtifactStore(tmp_path).checkpoint("a", 0).stat().st_size
    loaded = store(tmp_path).load()
    assert loaded is not None
    for key, values in FULL.state.items():
        assert_equal(loaded.state[key], values)
    for name in ("frames_written", "bytes_written", "seconds", "names", "weights", "models"):
        assert getattr(loaded, name) == getattr(FULL, name)


def test_the_latest_attempt_counts_also_where_it_begins_anew(tmp_path: Path) -> None:
    checkpoints = store(tmp_path)
    for attempt in (2, 10, 9):
        checkpoints.save(attempt, Checkpoint(seconds=attempt, state=FULL.state))
    assert (checkpoints.load() or FULL).seconds == 10
    checkpoints.save(11, Checkpoint())
    assert checkpoints.load() is None
    checkpoints.remove(11)
    assert ArtifactStore(tmp_path).checkpoints("a") == [ArtifactStore(tmp_path).checkpoint("a", 11)]


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path).save(0, FULL)
    for change in ({"tracker": {"name": "ocsort"}}, {"reid": {"max_distance": 0.2}}, {"detector": {"image_size": 320}}):
        with pytest.raises(UnfitCheckpoint, match="config"):
            store(tmp_path, load_config([change])).load()
    elsewhere = load_config([{"serving": {"session": {"checkpoint_s": 1}, "detector": {"max_batch": 3}}}])
    assert store(tmp_path, elsewhere).load() is not None, "the tracks do not depend on that"
    monkeypatch.setattr(motserve, "__version__", "0.0.1")
    with pytest.raises(UnfitCheckpoint, match=r"0\.0\.1"):
        store(tmp_path).load()


def test_a_checkpoint_of_tracks_that_are_not_there_is_refused(tmp_path: Path) -> None:
    checkpoints, results = store(tmp_path), ArtifactStore(tmp_path).results("a")
    checkpoints.save(0, Checkpoint(bytes_written=5, state=FULL.state))
    with pytest.raises(UnfitCheckpoint, match="5 bytes of tracks were written, and 0 are there"):
        checkpoints.load()
    results.write_bytes(b"four")
    with pytest.raises(UnfitCheckpoint, match="4 are there"):
        checkpoints.load()
    results.write_bytes(b"more than five")
    assert checkpoints.load() is not None


def test_damage_anywhere_is_told(tmp_path: Path) -> None:
    checkpoints, path = store(tmp_path), ArtifactStore(tmp_path).checkpoint("a", 0)
    checkpoints.save(0, FULL)
    data = path.read_bytes()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(UnfitCheckpoint, match=r"checkpoint-0\.npz is damaged"):
            checkpoints.load()
    for flags in (1, 1 << 6):  # encrypted, strongly: what a single bit makes zipfile believe
        entry = data.index(b"PK\x01\x02")
        path.write_bytes(data[: entry + 8] + bytes([data[entry + 8] | flags]) + data[entry + 9 :])
        with pytest.raises(UnfitCheckpoint, match="damaged"):
            checkpoints.load()
    content = data.index(np.arange(5).tobytes())
    path.write_bytes(data[: content + 9] + b"\xff" + data[content + 10 :])
    with pytest.raises(UnfitCheckpoint, match="damaged"):
        checkpoints.load()


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    path = ArtifactStore(tmp_path).create("a") / "checkpoint-0.npz"
    np.savez(path, header=np.array([Evil()], object))
    with pytest.raises(UnfitCheckpoint):
        store(tmp_path).load()
    assert not (tmp_path / "made").exists()


def test_the_checkpoint_before_stays_until_the_next_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = store(tmp_path)
    checkpoints.save(0, FULL)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(0, Checkpoint(seconds=9, state=FULL.state))
    monkeypatch.undo()
    assert (checkpoints.load() or Checkpoint()).seconds == FULL.seconds
    assert [path.name for path in (tmp_path / "videos" / "a").iterdir()] == ["checkpoint-0.npz"]


def test_what_is_left_of_a_save_that_was_killed_goes_with_the_checkpoints(tmp_path: Path) -> None:
    checkpoints = store(tmp_path)
    for attempt in (0, 1, 10):
        checkpoints.save(attempt, FULL)
        (tmp_path / "videos" / "a" / f".checkpoint-{attempt}.npz.1a2b3c4d.part").write_bytes(b"half of it")
    checkpoints.remove(10)
    left = {".checkpoint-10.npz.1a2b3c4d.part", "checkpoint-10.npz"}
    assert {path.name for path in (tmp_path / "videos" / "a").iterdir()} == left
