"""`motserve.track`: frames with pictures, the whole video, and what is left of it when a loop is left."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_checks import Motserve, document

import motserve
from motserve.config import Config, VideoConfig
from motserve.errors import Conflict, InvalidConfig, InvalidVideo, MotserveError, NotFound
from motserve.pipeline.local_models import LocalModels
from motserve.pipeline.video_run import VideoRun
from motserve.types import TrackedFrame
from motserve.video import Annotator, open_video

Track = Callable[..., VideoRun]


@pytest.fixture
def track(untrained: Sequence[str], clip: Path) -> Track:
    """Tracks the clip with small untrained networks."""
    settings = [*untrained[1::2], "pipeline.chunk_size=2"]
    return lambda source=clip, *more, **arguments: motserve.track(source, overrides=[*settings, *more], **arguments)


def rows(frames: Iterator[TrackedFrame] | VideoRun) -> list[Any]:
    return [
        (frame.index, frame.identities.tolist(), frame.track_ids.tolist(), np.round(frame.boxes, 1).tolist())
        for frame in frames
    ]


def is_free(video: Path) -> bool:
    """Whether neither a thread works on a video nor a file of it is open."""
    open_files = [file.resolve() for file in Path("/proc/self/fd").iterdir()]
    return "track" not in [thread.name for thread in threading.enumerate()] and video not in open_files


# --- frames -----------------------------------------------------------------------------------------------------------


def test_frames_come_in_order_with_their_pictures(track: Track, clip: Path) -> None:
    with open_video(clip, VideoConfig()) as video:
        expected = list(video.frames())
    frames = list(track())
    assert [frame.index for frame in frames] == list(range(12))
    for frame, decoded in zip(frames, expected, strict=True):
        assert frame.timestamp == decoded.timestamp
        np.testing.assert_array_equal(frame.image, decoded.image)
        assert len(frame.boxes) == len(frame.identities) == len(frame.track_ids) == len(frame.scores)
        assert frame.classes.tolist() == [0] * len(frame.boxes)
    assert sum(len(frame.boxes) for frame in frames) > 12
    assert is_free(clip)


def test_nothing_is_loaded_before_the_first_frame(track: Track, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it is loaded")

    monkeypatch.setattr("motserve.pipeline.video_run.LocalModels", refuse)
    monkeypatch.setattr("motserve.pipeline.video_run.open_video", refuse)
    frames = iter(track())
    with pytest.raises(AssertionError, match="it is loaded"):
        next(frames)


def test_tracks_equal_those_of_the_command_line(
    track: Track, clip: Path, motserve: Motserve, untrained: Sequence[str]
) -> None:
    assert motserve("track", clip, *untrained, "--output", "out").exit_code == 0
    of_command = [
        (frame["frame"], [person["id"] for person in frame["tracks"]], [person["track"] for person in frame["tracks"]])
        for frame in document("out/tracks.json")["frames"]
    ]
    assert [row[:3] for row in rows(track())] == of_command
    assert [row[:3] for row in rows(track().run().frames)] == of_command


def test_a_loop_that_is_left_frees_thread_and_file(track: Track, clip: Path) -> None:
    video = track()
    for frame in video:
        if frame.index == 3:
            break
    assert is_free(clip)

    def fail() -> None:
        for _ in video:
            raise KeyError("of the loop")

    with pytest.raises(KeyError, match="of the loop"):
        fail()
    assert is_free(clip)
    assert len(list(video)) == 12  # a later loop begins at the first frame


def test_a_run_that_is_forgotten_frees_thread_and_file(track: Track, clip: Path) -> None:
    assert next(track()).index == 0
    gc.collect()
    assert is_free(clip)


def test_a_with_block_closes_the_video(track: Track, clip: Path) -> None:
    with track() as video:
        frames = iter(video)
        assert next(frames).index == 0
    assert is_free(clip)
    assert list(frames) == []


def test_a_run_that_is_closed_meanwhile_is_not_done(track: Track) -> None:
    video = track()

    def close(done: int, total: int | None) -> None:
        if done:
            video.close()

    with pytest.raises(Conflict, match=r"the run was closed after \d+ frames"):
        video.run(progress=close)
    assert video.run().summary["frames"] == 12


def test_next_and_a_loop_continue_each_other(track: Track) -> None:
    video = track()
    assert [next(video).index, next(video).index] == [0, 1]
    assert [frame.index for frame in video] == list(range(2, 12))
    every_second = [(frame.index, next(video).index) for frame in video]
    assert every_second == [(index, index + 1) for index in range(0, 12, 2)]


def test_models_are_loaded_once(track: Track, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    loaded = []

    def load(config: Config, has_detector: bool) -> LocalModels:
        loaded.append(config)
        return LocalModels(config, has_detector)

    monkeypatch.setattr("motserve.pipeline.video_run.LocalModels", load)
    video = track()
    first = rows(video)
    assert rows(video) == rows(VideoRun(clip, video.config, shared_with=video)) == first
    assert len(loaded) == 1


def test_it_works_while_an_event_loop_runs(track: Track) -> None:
    async def notebook() -> Any:
        assert asyncio.get_running_loop().is_running()
        return len(list(track())) + int(track().run().summary["frames"])

    assert asyncio.run(notebook()) == 24


def test_two_threads_give_the_tracks_of_one(track: Track) -> None:
    expected = rows(track())
    got: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda key=key: got.update({key: rows(track())})) for key in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {0: expected, 1: expected}


def test_a_broken_video_raises_after_its_last_good_frame(track: Track, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[: clip.stat().st_size * 3 // 4])
    seen: list[int] = []
    with pytest.raises(InvalidVideo, match=r"broken\.mp4 is cut off"):
        seen.extend(frame.index for frame in track(broken))
    assert seen == list(range(len(seen)))
    assert 1 <= len(seen) < 12
    result = track(broken).run()
    assert isinstance(result.error, InvalidVideo)
    assert (result.summary["status"], result.summary["frames"]) == ("incomplete", len(seen))
    assert "cut off" in result.summary["error"]
    assert result.annotate(tmp_path / "annotated.mp4").exists()
    assert is_free(broken)


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("none.mp4", NotFound, "there is no video at none.mp4"),
        ("n" * 300, NotFound, "File name too long"),
        ("pipe", InvalidVideo, "pipe is a pipe or a device"),
        ("broken.mp4", NotFound, "it is a link to none.mp4, which does not exist"),
        ("", InvalidConfig, "a path cannot be empty"),
        ("a\0b", InvalidConfig, "zero byte"),
        ("rtsp://camera/1", InvalidConfig, "live streams are not supported yet"),
        (
            "ftp://user:secret@host/a.mp4",
            InvalidConfig,
            "^ftp://host/a.mp4: ftp:// is not supported",
        ),
        (0, InvalidConfig, "source must be the path of a video file or a folder, not 0"),
        (None, InvalidConfig, "source must be the path"),
        (["a.mp4"], InvalidConfig, "source must be the path"),
    ],
)
def test_other_sources_are_refused_at_once(
    source: Any, kind: type[MotserveError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("broken.mp4").symlink_to("none.mp4")
    with pytest.raises(kind, match=said):
        motserve.track(source)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": 3}, "model must be the name or the path of weights, or a list of them, not 3"),
        ({"tracker": "kalman"}, "there is no tracker 'kalman'"),
        ({"config": "none.yaml"}, "cannot read configuration file none.yaml"),
        ({"overrides": ["reid.policy"]}, "not of the form"),
        ({"overrides": "reid.policy=sometimes"}, "reid.policy"),
    ],
)
def test_other_settings_are_refused_at_once(clip: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        motserve.track(clip, **arguments)


def test_arguments_are_short_for_settings(clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("detector: {confidence: 0.3, weights: a.pt}")
    config = motserve.track(clip, model=tmp_path / "b.pt", tracker="sort", config=[file]).config
    assert config.detector.weights == (str(tmp_path / "b.pt"),)
    assert (config.detector.confidence, config.tracker.name) == (0.3, "sort")
    assert motserve.track(clip, model="b.pt", overrides="detector.weights=c.pt").config.detector.weights == ("c.pt",)
    assert motserve.track(clip, config=config).config == config


# --- postprocessing ---------------------------------------------------------------------------------------------------


def test_steps_of_whole_files_are_refused_in_a_loop_and_done_by_run(track: Track) -> None:
    video = motserve.track(track().source, config=track().config, overrides="interpolation={}")
    with pytest.raises(InvalidConfig, match=r"interpolation of the configuration need the whole video: call run\(\)"):
        next(video)
    assert video.run().summary["frames"] == 12


# --- a frame ----------------------------------------------------------------------------------------------------------


def test_a_frame_shows_itself(track: Track) -> None:
    frame = next(frame for frame in track() if len(frame.boxes))
    before = frame.image.copy()
    plotted = frame.plot()
    assert plotted.shape == frame.image.shape
    assert (plotted != frame.image).any()
    np.testing.assert_array_equal(frame.image, before)
    page = frame._repr_html_()
    assert 'src="data:image/jpeg;base64,' in page
    assert f"{len(frame.boxes)} identit" in page
    assert len(page) < 40_000
    assert repr(frame).startswith("<VideoFrame ")


def test_a_plot_is_the_frame_of_the_annotated_video(track: Track) -> None:
    run = track(track().source, "video.annotation.trail_s=2", "video.annotation.text_scale=2")
    annotator = Annotator({0: "person"}, run.config.video.annotation)
    frames = list(run)
    for frame in frames:
        np.testing.assert_array_equal(frame.plot(), annotator.draw(frame.image, frame))
    assert any(frame.state.trails for frame in frames)


def test_a_frame_becomes_detections_of_supervision(track: Track) -> None:
    pytest.importorskip("supervision")
    frames = [frame for frame in track()]  # noqa: C416
    for frame in frames:
        detections = frame.to_supervision()
        np.testing.assert_array_equal(detections.xyxy, frame.boxes)
        np.testing.assert_array_equal(detections.tracker_id, frame.identities)
        assert detections.data["class_name"].tolist() == ["person"] * len(frame.boxes)


def test_a_missing_package_is_named(track: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InvalidConfig, match=r"to_supervision needs supervision .*pip install supervision"):
        next(track()).to_supervision()


def test_the_current_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hall" / "img1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "hall")
    assert motserve.track(".").file.name == "hall"
    monkeypatch.chdir("img1")
    assert motserve.track("..").file.name == "hall"


def test_a_name_takes_one_line_of_a_log(track: Track, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    for number in (1, 2, 5):
        assert cv2.imwrite(str(folder / f"{number:06}.png"), np.zeros((48, 64, 3), np.uint8))
    assert len(list(track(source=folder))) == 3
    assert r"two\nlines: missing images" in caplog.text
