"""Cached detections: another tracker needs no detector, an interrupted run goes on, and the folder stays small."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import motserve
from motserve.errors import InvalidVideo
from motserve.pipeline.local_models import LocalModels
from motserve.pipeline.video_result import VideoResult
from motserve.types import Detections, Image

Run = Callable[..., VideoResult]


@pytest.fixture
def detected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures in each request to the detector."""
    requests: list[int] = []
    detect = LocalModels.detect

    async def counted(models: LocalModels, images: list[Image]) -> list[Detections]:
        requests.append(len(images))
        return await detect(models, images)

    monkeypatch.setattr(LocalModels, "detect", counted)
    return requests


@pytest.fixture
def settings(untrained: Sequence[str], tmp_path: Path) -> list[str]:
    chunks = ["pipeline.first_chunk_size=4", "pipeline.chunk_size=4"]
    return [*untrained[1::2], "reid.policy=off", *chunks, f"cache_dir={tmp_path / 'cache'}"]


@pytest.fixture
def run(settings: list[str], clip: Path) -> Run:
    return lambda *more, video=clip: motserve.track(video, overrides=[*settings, *more]).run()


def rows(result: VideoResult) -> list[Any]:
    return [(frame.index, frame.identities.tolist(), frame.boxes.tolist()) for frame in result.frames]


def cached_files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "detections").glob("*"))


def test_another_tracker_needs_no_detector(run: Run, detected: list[int], tmp_path: Path) -> None:
    first = run()
    assert (detected, first.frames_reused) == ([4, 4, 4], 0)
    other = run("tracker.name=sort")
    assert (detected, other.frames_reused) == ([4, 4, 4], 12)
    assert rows(other) == rows(run("tracker.name=sort", "disk.detections_cache_bytes=0"))
    assert rows(run()) == rows(first)
    assert run().class_names == first.class_names == {0: "person"}
    assert len(cached_files(tmp_path)) == 1


def test_skipped_frames_have_no_detections_to_cache(run: Run, detected: list[int], tmp_path: Path) -> None:
    first = run("detector.every=5")
    assert (detected, first.frames_reused, len(rows(first))) == ([3], 0, 12)
    second = run("detector.every=5", "tracker.name=sort")
    assert (detected, second.frames_reused, len(rows(second))) == ([3], 3, 12)
    assert run().frames_reused == 0
    assert len(cached_files(tmp_path)) == 2


def test_without_weights_of_a_detector_in_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = rows(run())

    def refuse(*_: Any) -> None:
        raise AssertionError("the detector is loaded")

    monkeypatch.setattr("motserve.pipeline.local_models.build_detector", refuse)
    assert rows(run()) == expected


def test_detections_of_another_backend_than_expected_are_not_cached(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("motserve.pipeline.detections.key.expected_backend", lambda *_: "openvino")
        assert run().models["detector"]["backend"].startswith("torch ")  # type: ignore[index]
        assert "detections are not cached: they are of torch, not of openvino" in caplog.text
        assert run().frames_reused == 0
    assert run().frames_reused == 0
    assert run().frames_reused == 12
    assert len(cached_files(tmp_path)) == 2


def test_an_interrupted_run_goes_on(run: Run, detected: list[int], settings: list[str], clip: Path) -> None:
    video = motserve.track(clip, overrides=settings)

    def interrupt(done: int, total: int | None) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.run(progress=interrupt)
    detected.clear()
    resumed = run()
    assert sum(detected) + resumed.frames_reused == 12
    assert resumed.frames_reused >= 8
    assert rows(resumed) == rows(run("disk.detections_cache_bytes=0"))


@pytest.mark.parametrize(
    "change",
    [
        "detector.confidence=0.5",
        "pipeline.chunk_size=3",
        "pipeline.first_chunk_size=1",
        "detector.image_size=64",
    ],
)
def test_what_changes_detections_has_a_file_of_its_own(run: Run, tmp_path: Path, change: str) -> None:
    run()
    assert run(change).frames_reused == 0
    assert len(cached_files(tmp_path)) == 2


def test_another_video_of_the_same_name_has_a_file_of_its_own(run: Run, tmp_path: Path, clip: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(clip.read_bytes())
    run(video=video)
    assert run(video=clip).frames_reused == 12  # a copy is the same video
    video.write_bytes(clip.read_bytes() + bytes(1))
    assert run(video=video).frames_reused == 0


def test_a_loop_keeps_nothing(settings: list[str], clip: Path, tmp_path: Path) -> None:
    assert len(list(motserve.track(clip, overrides=settings))) == 12
    assert not cached_files(tmp_path)


def test_the_longest_unused_files_are_removed(run: Run, tmp_path: Path) -> None:
    run()
    (first,) = cached_files(tmp_path)
    os.utime(first, (1, 1))
    size = first.stat().st_size
    run("detector.confidence=0.5", f"disk.detections_cache_bytes={size + 10}")
    (second,) = cached_files(tmp_path)
    assert second != first
    run("disk.detections_cache_bytes=1")
    assert cached_files(tmp_path) == []


def test_a_broken_disk_stops_no_run(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert run().summary["frames"] == 12
    assert "detections are not cached: Not a directory" in caplog.text


def test_a_full_disk_stops_no_run(run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("motserve.pipeline.detections.file.DetectionFile.append", full)
    with caplog.at_level(logging.WARNING):
        assert run().summary["frames"] == 12
    assert caplog.text.count("detections are not cached: No space left on device") == 1


def test_folders_of_linked_pictures_are_told_apart(run: Run, tmp_path: Path) -> None:
    for name, level in (("one", 0), ("other", 200)):
        (tmp_path / name).mkdir()
        (tmp_path / f"pictures of {name}").mkdir()
        (tmp_path / name / "img1").symlink_to(tmp_path / f"pictures of {name}")
        for number in range(3):
            picture = np.full((48, 64, 3), level + number, np.uint8)
            assert cv2.imwrite(str(tmp_path / name / "img1" / f"{number + 1:06}.png"), picture)
    first = run(video=tmp_path / "one")
    assert first.provenance["data"]["one"]["files"] == 3
    assert run(video=tmp_path / "one").frames_reused == 3
    other = run(video=tmp_path / "other")
    assert other.frames_reused == 0
    assert first.provenance["data"]["one"]["sha256"] != other.provenance["data"]["other"]["sha256"]


def test_files_beside_the_pictures_do_not_matter(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder" / "img1").mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / "folder" / "img1" / "1.png"), np.zeros((48, 64, 3), np.uint8))
    run(video=tmp_path / "folder")
    (tmp_path / "folder" / "tracks.txt").write_text("of another tracker")
    assert run(video=tmp_path / "folder").frames_reused == 1


def test_a_video_that_is_replaced_between_two_runs_is_another_one(
    settings: list[str], clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(clip.read_bytes())
    video = motserve.track(path, overrides=settings)
    first = video.run()
    path.write_bytes(clip.read_bytes() + bytes(1))
    with pytest.raises(InvalidVideo, match=r"video\.mp4 has changed since it was tracked; track it again"):
        first.annotate(tmp_path / "annotated.mp4")
    second = video.run()
    assert second.frames_reused == 0
    assert first.provenance["data"] != second.provenance["data"]


def test_nothing_is_kept_of_a_video_that_changes_meanwhile(
    settings: list[str], clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(clip.read_bytes())

    def change(done: int, total: int | None) -> None:
        with path.open("ab") as file:
            file.write(bytes(1))

    with caplog.at_level(logging.WARNING):
        motserve.track(path, overrides=settings).run(progress=change)
    assert "detections are not cached: the video changed while it was tracked" in caplog.text
    assert not cached_files(tmp_path)


def test_how_the_annotated_video_looks_does_not_matter(run: Run) -> None:
    run()
    assert run("video.annotation.text_scale=2", "video.crf=30").frames_reused == 12


def test_detections_of_a_gpu_are_not_those_of_a_cpu(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motserve.pipeline.detections.key._NVIDIA_DRIVER", clip)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [run().frames_reused, run().frames_reused] == [0, 12]
