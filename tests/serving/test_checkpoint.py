"""Checkpoints: a video that is resumed from one has the same tracks as a video that is not interrupted."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from identity_crowds import RATE_HZ, Crowd, settings
from tracker_streams import EVERY, HARD, RATE

import motserve
from motserve.base import State, merge_states, substate
from motserve.config import (
    AppearanceConfig,
    BotSortConfig,
    CameraConfig,
    Config,
    IdentitiesConfig,
    change_config,
    load_config,
)
from motserve.errors import UnfitCheckpoint
from motserve.lab.benchmark.streams import crowd_stream
from motserve.people.identity_summaries import IdentitySummaries
from motserve.pipeline.frame_buffer import FrameBuffer, ResolvedFrame
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import VideoTracker
from motserve.reid.linker import IdentityLinker
from motserve.serving.session.checkpoint import Checkpoint, CheckpointStore
from motserve.serving.stores import ArtifactStore
from motserve.types import Detections, EmbeddedCrops, FloatArray, Image, TrackedFrame

FRAMES = 60
TRACKERS = {
    **EVERY,
    "botsort-appearance": BotSortConfig(appearance=AppearanceConfig(), camera=CameraConfig(downscale=1)),
}

BRIEF = {"lost_buffer_s": 0.1}


def configure(name: str) -> Config:
    """Identities that are embedded often and decided late, on top of each tracker."""
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
    """A crowd in front of a shaking backdrop, with its tracks and embeddings. Some frames show no person."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stream = crowd_stream(9, FRAMES, 3, HARD)
        self.stream[12:18] = [Detections.empty()] * 6
        self.backdrop = np.random.default_rng(0).integers(0, 255, (660, 860, 3), np.uint8)
        self.frames: list[TrackedFrame] = []
        self.embedded: list[EmbeddedCrops] = []
        self.reset()

    def reset(self) -> None:
        self.stats = PipelineStats()
        self.summaries = IdentitySummaries(IdentitiesConfig(max_per_video=4, embeddings_per_identity=2))
        self.video_tracker = VideoTracker(self.config, self.stats, RATE, (800, 600), self.on_embedded)

    def on_embedded(self, crops: EmbeddedCrops) -> None:
        self.embedded.append(crops)
        self.summaries.add(crops.identities, crops.embeddings, crops.crops, crops.boxes, crops.scores, crops.timestamp)

    def picture(self, index: int) -> Image:
        dx, dy = 20 + index * 7 % 11, 20 + index * 5 % 13
        return np.ascontiguousarray(self.backdrop[dy : dy + 600, dx : dx + 800])

    async def embed(self, boxes: FloatArray) -> FloatArray:
        """Return embeddings that depend on a person's height, and a little on the position."""
        height = boxes[:, 3] - boxes[:, 1]
        embeddings = np.stack([np.cos(height / 9), np.sin(height / 9), 0.3 * np.cos(boxes[:, 0] / 50)], axis=1)
        return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), np.float32)

    def advance(self, until: int) -> None:
        async def run() -> None:
            for index in range(self.stats.frames, until):
                if not self.config.detector.detects(index):
                    self.video_tracker.skip(index, index / RATE)
                    continue
                self.frames += await self.video_tracker.advance(
                    index, index / RATE, self.stream[index], self.embed, partial(self.picture, index)
                )

        asyncio.run(run())
        if until == FRAMES:
            self.frames += self.video_tracker.finish()

    def state(self) -> State:
        return merge_states(
            video_tracker=self.video_tracker.state_dict(), identity_summaries=self.summaries.state_dict()
        )

    def resume(self, state: State) -> None:
        self.reset()
        self.video_tracker.load_state_dict(substate(state, "video_tracker"))
        self.summaries.load_state_dict(substate(state, "identity_summaries"))


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


@pytest.mark.parametrize(("name", "every"), [*((name, 1) for name in TRACKERS), ("bytetrack", 3)])
def test_a_resumed_video_has_the_tracks_of_an_uninterrupted_one(name: str, every: int, tmp_path: Path) -> None:
    config = change_config(configure(name), {"detector": {"every": every}})
    uninterrupted, resumed = Video(config), Video(config)
    uninterrupted.advance(FRAMES)
    checkpoints = store(tmp_path, config)
    buffered = False
    for attempt, frame in enumerate((0, 1, 7, 20, 23, 33, 59, FRAMES)):
        resumed.advance(frame)
        buffered |= len(resumed.frames) < frame
        checkpoints.save(attempt, Checkpoint(state=resumed.state()))
        loaded = checkpoints.load()
        assert loaded is not None
        resumed.resume(loaded.state)
    assert sum(len(frame.tracks) for frame in uninterrupted.frames) > 40
    assert buffered, "no frame was in the buffer when a checkpoint was made"
    assert_equal(resumed.frames, uninterrupted.frames)
    assert_equal(resumed.embedded, uninterrupted.embedded)
    assert_equal(resumed.stats, uninterrupted.stats)
    assert len(uninterrupted.summaries) == 4
    assert_equal(resumed.summaries.summaries(), uninterrupted.summaries.summaries())
    assert resumed.summaries.dropped == uninterrupted.summaries.dropped > 0


def identities(seed: int, every: int | None) -> tuple[list[ResolvedFrame], IdentityLinker]:
    """Return the identities of a random crowd; every `every` frames linker and buffer are saved and restored."""
    config, size = settings(seed)
    crowd, linker, buffer = Crowd(seed), IdentityLinker(config, size), FrameBuffer()
    released: list[ResolvedFrame] = []
    for index in range(200):
        timestamp = index / RATE_HZ
        tracks = crowd.step()
        rows = linker.plan(tracks, timestamp)
        embeddings = crowd.embeddings(tracks.ids[rows].tolist()) if len(rows) else np.empty((0, 0), np.float32)
        named = linker.link(tracks, timestamp, rows, embeddings)
        shown = np.flatnonzero(named)
        frame = TrackedFrame(index, timestamp, tracks.select(shown), named[shown])
        embedded = None
        if index % 3:
            crops = np.full((len(shown), 4, 2, 3), index, np.uint8)
            vectors = np.ones((len(shown), 3), np.float32)
            embedded = EmbeddedCrops(timestamp, named[shown], frame.tracks.boxes, frame.tracks.scores, vectors, crops)
        released += buffer.add(frame, linker.take_decisions(), embedded)
        if every and index % every == 0:
            states = linker.state_dict(), buffer.state_dict()
            linker, buffer = IdentityLinker(config, size), FrameBuffer()
            linker.load_state_dict(states[0])
            buffer.load_state_dict(states[1])
    linker.finish(199 / RATE_HZ)
    return released + buffer.resolve(linker.take_decisions()), linker


@pytest.mark.parametrize("seed", range(12))
def test_identities_do_not_depend_on_how_often_a_video_is_resumed(seed: int) -> None:
    uninterrupted, one = identities(seed, None)
    resumed, other = identities(seed, 1 + seed % 4)
    assert_equal(resumed, uninterrupted)
    assert (one.identities, one.links) == (other.identities, other.links)


def test_no_state_can_be_saved_within_a_frame() -> None:
    video = Video(configure("bytetrack"))
    video.advance(5)

    async def broken(boxes: FloatArray) -> FloatArray:
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError):
        asyncio.run(video.video_tracker.advance(5, 5 / RATE, video.stream[5], broken, lambda: video.picture(5)))
    assert not video.video_tracker.is_idle
    with pytest.raises(RuntimeError, match="frame 5 is not finished"):
        video.video_tracker.state_dict()


@pytest.mark.parametrize("name", ["bytetrack", "deepsort", "botsort-appearance"])
def test_a_state_of_another_tracker_is_refused(name: str) -> None:
    video = Video(configure(name))
    video.advance(10)
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
        "identity_summaries/x": np.empty((0, 3)),
    },
)


def test_a_loaded_checkpoint_equals_the_saved_one(tmp_path: Path) -> None:
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


def test_the_latest_attempt_counts_also_if_it_starts_at_the_first_frame(tmp_path: Path) -> None:
    checkpoints = store(tmp_path)
    for attempt in (2, 10, 9):
        checkpoints.save(attempt, Checkpoint(seconds=attempt, state=FULL.state))
    assert (checkpoints.load() or FULL).seconds == 10
    checkpoints.save(11, Checkpoint())
    assert checkpoints.load() is None
    checkpoints.remove(11)
    assert ArtifactStore(tmp_path).checkpoints("a") == [ArtifactStore(tmp_path).checkpoint("a", 11)]


def test_a_checkpoint_of_another_configuration_or_release_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path).save(0, FULL)
    for change in (
        {"tracker": {"name": "ocsort"}},
        {"reid": {"max_distance": 0.2}},
        {"detector": {"image_size": 320}},
        {"video": {"max_frames": 9}},
        {"pipeline": {"chunk_size": 3}},
        {"serving": {"identities": {"max_per_video": 9}}},
    ):
        with pytest.raises(UnfitCheckpoint, match=r"checkpoint-0\.npz was written by .*'config': '"):
            store(tmp_path, load_config([change])).load()
    elsewhere = load_config([{"serving": {"session": {"checkpoint_s": 1}, "detector": {"max_batch": 3}}}])
    assert store(tmp_path, elsewhere).load() is not None, "the tracks do not depend on that"
    monkeypatch.setattr(motserve, "__version__", "0.0.1")
    with pytest.raises(UnfitCheckpoint, match=r"not by {'format': \d+, 'motserve': '0\.0\.1', 'config': '"):
        store(tmp_path).load()


def test_a_checkpoint_that_names_no_release_is_refused(tmp_path: Path) -> None:
    path = ArtifactStore(tmp_path).create("a") / "checkpoint-0.npz"
    np.savez(path, header=np.frombuffer(b'{"format": 1}', np.uint8))
    with pytest.raises(UnfitCheckpoint, match=r"was written by {'format': 1, 'motserve': None, .*}, not by"):
        store(tmp_path).load()


def test_a_checkpoint_without_its_tracks_is_refused(tmp_path: Path) -> None:
    checkpoints, results = store(tmp_path), ArtifactStore(tmp_path).results("a")
    checkpoints.save(0, Checkpoint(bytes_written=5, state=FULL.state))
    with pytest.raises(UnfitCheckpoint, match="it follows 5 bytes of tracks, and the file has 0"):
        checkpoints.load()
    results.write_bytes(b"four")
    with pytest.raises(UnfitCheckpoint, match="the file has 4"):
        checkpoints.load()
    results.write_bytes(b"more than five")
    assert checkpoints.load() is not None


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoints, path = store(tmp_path), ArtifactStore(tmp_path).checkpoint("a", 0)
    checkpoints.save(0, FULL)
    data = path.read_bytes()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(UnfitCheckpoint, match=r"checkpoint-0\.npz is damaged"):
            checkpoints.load()
    for flags in (1, 1 << 6):  # one flipped bit makes zipfile expect encryption
        entry = data.index(b"PK\x01\x02")
        path.write_bytes(data[: entry + 8] + bytes([data[entry + 8] | flags]) + data[entry + 9 :])
        with pytest.raises(UnfitCheckpoint, match="damaged"):
            checkpoints.load()
    content = data.index(np.arange(5).tobytes())
    path.write_bytes(data[: content + 9] + b"\xff" + data[content + 10 :])
    with pytest.raises(UnfitCheckpoint, match="damaged"):
        checkpoints.load()


def test_loading_a_checkpoint_runs_no_code_in_it(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    path = ArtifactStore(tmp_path).create("a") / "checkpoint-0.npz"
    np.savez(path, header=np.array([Evil()], object))
    with pytest.raises(UnfitCheckpoint):
        store(tmp_path).load()
    assert not (tmp_path / "made").exists()


def test_the_previous_checkpoint_stays_until_the_next_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_partial_files_of_a_killed_save_are_removed_with_the_checkpoints(tmp_path: Path) -> None:
    checkpoints = store(tmp_path)
    for attempt in (0, 1, 10):
        checkpoints.save(attempt, FULL)
        (tmp_path / "videos" / "a" / f".checkpoint-{attempt}.npz.1a2b3c4d.part").write_bytes(b"half of it")
    checkpoints.remove(10)
    left = {".checkpoint-10.npz.1a2b3c4d.part", "checkpoint-10.npz"}
    assert {path.name for path in (tmp_path / "videos" / "a").iterdir()} == left


def test_two_sessions_may_remove_checkpoints_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, unlink = store(tmp_path), Path.unlink
    checkpoints.save(0, FULL)
    (tmp_path / "videos" / "a" / ".checkpoint-0.npz.1a2b3c4d.part").write_bytes(b"half of it")

    def second(path: Path, missing_ok: bool = False) -> None:
        unlink(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", second)
    checkpoints.remove(1)
    assert list((tmp_path / "videos" / "a").iterdir()) == []
