from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from experiment_data import OFF, Clock, Stepper, load_written, write, write_sequence

from motserve.config import Config, VideoConfig, change_config, load_config
from motserve.errors import InvalidConfig, InvalidData, InvalidVideo, NotFound
from motserve.lab.evaluation import rules_for
from motserve.lab.evaluation.sequences import TruthFile, find_truth
from motserve.lab.experiments.appearance import Appearance
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.detections import DetectedVideo, detect_video, read_detections
from motserve.lab.experiments.footage import Footage, find_video
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.mot import score_files, track_and_score
from motserve.lab.experiments.sequences import load_sequences, track_sequence
from motserve.lab.experiments.tracking import track_detections, track_with
from motserve.lab.scenes import SceneConfig, ground_truth_rows, render
from motserve.lab.tuning.search import halves
from motserve.pipeline.loop import track_frames
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import EmbedFrameBoxes
from motserve.reid.embedder import CropEmbedder
from motserve.types import Detections, FloatArray, Frame, Image, TrackedFrame, Tracks
from motserve.video import VideoWriter, open_video


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered scene: a video of walking people beside its ground truth."""
    folder = tmp_path_factory.mktemp("scene") / "plaza"
    folder.mkdir()
    config = SceneConfig(seed=3, width=320, height=180, rate_hz=8, duration_s=3, people=4)
    frames = list(render(config))
    with VideoWriter(folder / "plaza.mp4", 320, 180, VideoConfig(), rate_hz=8) as writer:
        for rendered in frames:
            writer.write(rendered.frame.image, rendered.frame.timestamp)
    write(folder / "gt" / "gt.txt", ground_truth_rows(frames))
    write(folder / "seqinfo.ini", ["[Sequence]", "frameRate=8", f"seqLength={len(frames)}"])
    return folder


@pytest.fixture(scope="module")
def bundled() -> Config:
    """The bundled networks with a small input size."""
    return load_config(
        [
            {
                "detector": {"weights": "bundled", "image_size": 320, "device": "cpu"},
                "reid": {"weights": "bundled", "device": "cpu", "policy": "always"},
            },
            {"tracker": {"lost_buffer_s": 0.4, "new_track_confidence": 0.4, "high_confidence": 0.3}},
        ]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of five grey pictures."""
    path = tmp_path / "grey"
    (path / "img1").mkdir(parents=True)
    for number in range(5):
        cv2.imwrite(str(path / "img1" / f"{number + 1:06}.png"), np.full((32, 48, 3), 10 * number, np.uint8))
    return path


def truth_of(path: Path, frames: int | None = None, rate_hz: float | None = None) -> TruthFile:
    return TruthFile("walk", path, frames, rate_hz)


def rows(frames: Sequence[TrackedFrame]) -> list[tuple[object, ...]]:
    return [
        (f.index, f.timestamp, f.tracks.ids.tolist(), f.identities.tolist(), f.tracks.boxes.tolist()) for f in frames
    ]


# --- footage ----------------------------------------------------------------------------------------------------------


def test_a_video_is_searched_beside_the_ground_truth_or_only_in_the_given_folder(tmp_path: Path) -> None:
    truth = truth_of(write(tmp_path / "walk" / "gt" / "gt.txt", []))
    beside = tmp_path / "walk" / "walk.avi"
    videos = tmp_path / "videos"
    videos.mkdir()
    with pytest.raises(NotFound, match=rf"no video of walk: searched img1/, .* in {tmp_path}/walk; give --videos"):
        find_video(truth)
    beside.touch()
    assert find_video(truth) == beside
    (tmp_path / "walk" / "img1").mkdir()
    assert find_video(truth) == tmp_path / "walk"
    with pytest.raises(NotFound, match=rf"no video of walk: searched walk\.mp4 .* in {videos}; give --videos"):
        find_video(truth, videos)
    (videos / "walk").mkdir()
    assert find_video(truth, videos) == videos / "walk"
    inner = videos / "walk" / "walk.mkv"
    inner.touch()
    assert find_video(truth, videos) == inner
    (videos / "walk.webm").touch()
    assert find_video(truth, videos) == videos / "walk.webm"
    (videos / "walk.mp4").touch()
    assert find_video(truth, videos) == videos / "walk.mp4"


def test_the_video_of_a_single_ground_truth_file_is_beside_it(tmp_path: Path) -> None:
    truth = truth_of(write(tmp_path / "walk.txt", []))
    with pytest.raises(NotFound):
        find_video(truth)
    (tmp_path / "walk.mp4").touch()
    assert find_video(truth) == tmp_path / "walk.mp4"


@pytest.mark.parametrize("order", [range(24), [0, 0, 3, 17, 23], [23, 0, 20, 20, 19, 23], [5]])
def test_frames_can_be_read_in_any_order(scene: Path, order: Sequence[int]) -> None:
    with open_video(scene / "plaza.mp4", VideoConfig()) as video:
        expected = [frame.image for frame in video.frames()]
    with Footage(scene / "plaza.mp4", VideoConfig()) as footage:
        for index in order:
            np.testing.assert_array_equal(footage.image(index), expected[index])


def test_reading_forward_decodes_once(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def counted(path: Path, config: VideoConfig, **options: Any) -> Any:
        opened.append(path)
        return open_video(path, config, **options)

    monkeypatch.setattr("motserve.lab.experiments.footage.open_video", counted)
    footage = Footage(scene / "plaza.mp4", VideoConfig())
    assert len(footage.sha256) == 64
    assert not opened
    for index in (0, 1, 1, 7, 20):
        footage.image(index)
    assert len(opened) == 1
    footage.image(19)
    assert len(opened) == 2
    footage.close()
    footage.close()
    footage.image(20)
    assert len(opened) == 3
    footage.close()


@pytest.mark.parametrize("index", [5, 500])
def test_a_frame_after_the_end_is_an_error_and_others_can_be_read(folder: Path, index: int) -> None:
    with Footage(folder, VideoConfig()) as footage:
        for _ in range(2):
            with pytest.raises(InvalidVideo, match=f"grey has no frame {index}"):
                footage.image(index)
            assert footage.image(4)[0, 0, 0] == 40


def test_the_checksum_of_a_video_is_that_of_its_file(scene: Path) -> None:
    video = scene / "plaza.mp4"
    assert Footage(video, VideoConfig()).sha256 == hashlib.sha256(video.read_bytes()).hexdigest()


def test_the_checksum_of_a_folder_is_that_of_its_pictures_and_their_names(tmp_path: Path, folder: Path) -> None:
    def checksum(path: Path = folder) -> str:
        return Footage(path, VideoConfig()).sha256

    seen = [checksum()]
    write(folder / "gt" / "gt.txt", ["1,1,1,1,1,1"])
    write(folder / "seqinfo.ini", ["[Sequence]", "frameRate=5"])
    assert checksum() == seen[0]
    assert Footage(folder, VideoConfig()).rate_hz == 5
    elsewhere = folder.rename(tmp_path / "elsewhere")
    assert checksum(elsewhere) == seen[0]

    (elsewhere / "img1" / "000001.png").rename(elsewhere / "img1" / "000009.png")
    seen.append(checksum(elsewhere))
    (elsewhere / "img1" / "000009.png").write_bytes((elsewhere / "img1" / "000002.png").read_bytes())
    seen.append(checksum(elsewhere))
    assert len(set(seen)) == len(seen)


def test_hidden_files_change_neither_checksum_nor_count(folder: Path) -> None:
    truth = TruthFile("grey", folder / "gt" / "gt.txt", 5, None)
    before = Footage(folder, VideoConfig(), truth).sha256
    for name in ("._000001.png", ".DS_Store", "Thumbs.db"):
        (folder / "img1" / name).write_bytes(b"no picture")
    assert Footage(folder, VideoConfig(), truth).sha256 == before
    assert Footage(folder, VideoConfig(), truth).image(4)[0, 0, 0] == 40


def test_pictures_are_read_from_the_folder_in_seqinfo(folder: Path) -> None:
    truth = TruthFile("grey", folder / "gt" / "gt.txt", 5, None)
    before = Footage(folder, VideoConfig(), truth).sha256
    (folder / "img1").rename(folder / "images")
    with pytest.raises(NotFound, match=r"no video of grey: searched img1/"):
        find_video(truth)
    write(folder / "seqinfo.ini", ["[Sequence]", "imDir=images"])
    assert find_video(truth) == folder
    assert Footage(folder, VideoConfig(), truth).sha256 == before
    assert Footage(folder, VideoConfig(), truth).image(4)[0, 0, 0] == 40
    write(folder / "seqinfo.ini", ["[Sequence]", "imDir=frames"])
    with pytest.raises(NotFound, match=r"searched frames/"):
        find_video(truth)
    with pytest.raises(InvalidVideo, match="imDir='frames', is missing"):
        Footage(folder, VideoConfig(), truth).image(0)
    write(folder / "seqinfo.ini", ["[Sequence]", "imDir=../grey/images"])
    with pytest.raises(InvalidData, match="imDir must be a folder inside"):
        find_video(truth)


def test_picture_numbers_need_not_begin_at_one(folder: Path) -> None:
    """Frames of the second half of a sequence, which has its own ground truth, count from 1 too."""
    for number in range(5, 0, -1):
        (folder / "img1" / f"{number:06}.png").rename(folder / "img1" / f"{number + 300:06}.png")
    with Footage(folder, VideoConfig()) as footage:
        assert [footage.image(index)[0, 0, 0] for index in range(5)] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("prefix", ["", "frame_"])
def test_pictures_with_a_gap_in_their_numbers_are_refused(folder: Path, prefix: str) -> None:
    for number, name in ((1, 1), (2, 2), (3, 6), (4, 4), (5, 5)):
        (folder / "img1" / f"{number:06}.png").rename(folder / "img1" / f"{prefix}{name:06}.png")
    with pytest.raises(InvalidVideo, match=r"grey/img1: picture 3 is missing between 2 and 4"):
        Footage(folder, VideoConfig()).image(0)


@pytest.mark.parametrize("names", ["000100 000105 000110 000115 000120", "1 2 4 8 16", "a0001 a0002 a0003 a0009 thumb"])
def test_numbers_that_are_not_frame_numbers_are_accepted(folder: Path, names: str) -> None:
    pictures = sorted((folder / "img1").iterdir())
    for picture, name in zip(pictures, names.split(), strict=True):
        picture.rename(picture.with_stem(name))
    assert Footage(folder, VideoConfig()).image(4)[0, 0, 0] == 40


def test_a_folder_has_the_length_of_its_sequence_with_any_picture_names(folder: Path) -> None:
    def footage(frames: int) -> Footage:
        return Footage(folder, VideoConfig(), TruthFile("grey", folder / "gt" / "gt.txt", frames, None))

    (folder / "img1" / "000003.png").rename(folder / "img1" / "000006.png")
    assert footage(5).image(0)[0, 0, 0] == 0
    with pytest.raises(InvalidData, match=r"grey/img1 has 5 pictures, grey has 6 frames; this is not its video"):
        footage(6).image(0)


def test_a_folder_without_a_rate_has_the_rate_of_its_sequence(folder: Path) -> None:
    truth = TruthFile("grey", folder / "gt" / "gt.txt", None, 7)
    with Footage(folder, VideoConfig(), truth).open() as source:
        assert source.info.rate_hz == 7
    write(folder / "seqinfo.ini", ["[Sequence]", "frameRate=5"])
    with Footage(folder, VideoConfig(), truth).open() as source:
        assert source.info.rate_hz == 5


def test_a_wrong_length_in_the_container_is_accepted(scene: Path, tmp_path: Path, untrained_detector: Path) -> None:
    """Containers state a duration; with longer sound or a variable rate it gives only an estimate of the length."""
    with av.open(str(scene / "plaza.mp4")) as source, av.open(str(tmp_path / "plaza.mkv"), "w") as target:
        (stream,) = source.streams.video
        copied = target.add_stream_from_template(stream)
        sound = target.add_stream("pcm_s16le", rate=8000)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 9), np.int16), layout="mono")
        noise.sample_rate = 8000
        for packet in (*sound.encode(noise), *sound.encode()):
            target.mux(packet)
    video = tmp_path / "plaza.mkv"
    with open_video(video, VideoConfig()) as opened:
        assert opened.info.frame_count != sum(1 for _ in opened.frames()) == 24
    truth = TruthFile("plaza", write(tmp_path / "plaza.txt", []), 24, None)
    config = load_config([{"detector": {"weights": str(untrained_detector), "image_size": 96, "device": "cpu"}}])
    footage = Footage(video, VideoConfig(), truth)
    assert len(detect_video("plaza", footage, Models(config), Cache(tmp_path / "cache"))) == 24


def test_the_size_is_checked_for_cached_results_too(folder: Path, tmp_path: Path, untrained_detector: Path) -> None:
    config = load_config([{"detector": {"weights": str(untrained_detector), "image_size": 96, "device": "cpu"}}])

    def detect(size: tuple[int, int] | None) -> DetectedVideo:
        truth = TruthFile("grey", folder / "gt" / "gt.txt", 5, None, size)
        return detect_video("grey", Footage(folder, VideoConfig(), truth), Models(config), Cache(tmp_path / "cache"))

    assert len(detect(None)) == len(detect((48, 32))) == 5
    with pytest.raises(InvalidData, match="is 48x32, the seqinfo"):
        detect((64, 32))


def test_a_video_of_another_size_is_refused(folder: Path) -> None:
    truth = TruthFile("grey", folder / "gt" / "gt.txt", 5, None, (64, 32))
    with pytest.raises(InvalidData, match=r"is 48x32, the seqinfo\.ini of grey says 64x32; this is not its video"):
        Footage(folder, VideoConfig(), truth).image(0)


# --- detections from a file -------------------------------------------------------------------------------------------


def test_detections_are_read_with_times_and_in_order_of_confidence(tmp_path: Path) -> None:
    path = write(
        tmp_path / "det.txt",
        [
            "3,-1,11,21,30,40,0.5,-1,-1,-1",
            "1,-1,1,1,10,20,0.25,-1,-1,-1",
            "1,-1,1.5,2.5,10,20,0.75,-1,-1,-1",
            "1,-1,5,5,10,20,0.25,-1,-1,-1",
        ],
    )
    seen = read_detections(path, truth_of(path, frames=4, rate_hz=8), load_config())
    assert (seen.name, seen.rate_hz, seen.class_names, seen.first, len(seen)) == ("walk", 8, {0: "person"}, 0, 4)
    assert seen.timestamps.tolist() == [0, 1 / 8, 2 / 8, 3 / 8]
    assert [frame.scores.tolist() for frame in seen.detections] == [[0.75, 0.25, 0.25], [], [0.5], []]
    assert seen.detections[0].boxes.tolist() == [[0.5, 1.5, 10.5, 21.5], [0, 0, 10, 20], [4, 4, 14, 24]]
    assert seen.detections[2].boxes.tolist() == [[10, 20, 40, 60]]
    assert {(d.boxes.dtype, d.scores.dtype, d.classes.dtype) for d in seen.detections} == {
        (np.dtype(np.float32), np.dtype(np.float32), np.dtype(np.int64))
    }
    assert seen.source == {
        "file": "det.txt",
        "files": 1,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scores": "as-is",
    }


@pytest.mark.parametrize(("confidence", "count"), [(0.0, 4), (0.1, 3), (0.3, 2), (0.31, 1), (1.0, 1)])
def test_detector_confidence_applies_to_files_too(tmp_path: Path, confidence: float, count: int) -> None:
    path = write(tmp_path / "det.txt", [f"1,-1,1,1,10,20,{score}" for score in (0.1, 1, 0.05, 0.3)])
    config = load_config([{"detector": {"confidence": confidence}}])
    (frame,) = read_detections(path, truth_of(path), config).detections
    assert len(frame) == count


def test_boxes_below_one_pixel_are_dropped(tmp_path: Path) -> None:
    sizes = ["0,20", "20,0", "0.99,20", "20,0.5", "1,1", "20,20"]
    path = write(tmp_path / "det.txt", [f"1,-1,1,1,{size},0.9" for size in sizes])
    (frame,) = read_detections(path, truth_of(path), load_config()).detections
    assert frame.boxes.tolist() == [[0, 0, 1, 1], [0, 0, 20, 20]]


def test_without_seqinfo_a_sequence_has_the_rate_of_a_folder_of_pictures(tmp_path: Path) -> None:
    path = write(tmp_path / "det.txt", ["3,-1,1,1,10,20,0.9"])
    seen = read_detections(path, truth_of(path), load_config([{"video": {"image_folder_rate_hz": 20}}]))
    assert (seen.rate_hz, seen.timestamps.tolist()) == (20, [0, 0.05, 0.1])


def test_a_column_of_confidences_may_be_missing_and_a_file_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "det.txt", ["1,-1,1,1,10,20"])
    assert read_detections(path, truth_of(path), load_config()).detections[0].scores.tolist() == [1]
    write(path, [])
    assert len(read_detections(path, truth_of(path), load_config())) == 0
    assert [len(d) for d in read_detections(path, truth_of(path, frames=3), load_config()).detections] == [0, 0, 0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("5,-1,1,1,10,20,0.9", "frame after the end of walk, which has 4"),
        ("1,-1,1,1,10,20,1.01", "score 1.01 is not a confidence"),
        ("1,-1,1,1,10,20,-0.1", "score -0.1 is not a confidence"),
        ("1,-1,1,1,10,20,24.5", "score 24.5 is not a confidence"),
        ("1,-1,-1e8,-1e8,3e8,3e8,0.9", "the box reaches beyond 1000000 pixels"),
        ("1,-1,999991,1,10.5,20,0.9", "the box reaches beyond 1000000 pixels"),
        ("1,-1,1,1,10,20,nan", ""),
        ("1,-1,inf,1,10,20,0.9", ""),
        ("0,-1,1,1,10,20,0.9", ""),
        ("1.5,-1,1,1,10,20,0.9", ""),
        ("1,-1,1,1,-10,20,0.9", ""),
        ("1,-1,1,1,10,20", ""),
        ("1,-1,1,1,10,20,high", ""),
        ("1 -1 1 1 10 20 0.9", ""),
    ],
)
@pytest.mark.parametrize("place", [1, 3])
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: str, said: str, place: int) -> None:
    lines = ["2,-1,1,1,10,20,0.9", "", "4,-1,1,1,10,20,0.9"]
    path = write(tmp_path / "det.txt", [*lines[:place], row, *lines[place:]])
    config = load_config([{"evaluation": {"detection_scores": "as-is"}}])
    with pytest.raises(InvalidData, match=rf"det\.txt, line {place + 1}: .*{said}"):
        read_detections(path, truth_of(path, frames=4), config)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.txt"):
        read_detections(tmp_path / "none.txt", truth_of(tmp_path), load_config())


def test_a_video_of_another_length_than_its_ground_truth_is_refused(
    scene: Path, bundled: Config, tmp_path: Path
) -> None:
    (truth,) = find_truth(scene).values()
    longer = dataclasses.replace(truth, frames=500)
    with pytest.raises(InvalidData, match=r"plaza\.mp4 has 24 frames, plaza has 500; this is not its video"):
        load_sequences({longer.name: longer}, Models(bundled), Cache(tmp_path / "cache"))


def test_ground_truth_after_the_last_detection_can_be_scored(tmp_path: Path) -> None:
    write(tmp_path / "gt" / "walk.txt", [f"{frame},1,{frame},1,40,100,1,1,1" for frame in range(1, 21)])
    write(tmp_path / "det" / "walk.txt", [f"{frame},-1,{frame},1,40,100,0.9" for frame in range(1, 11)])
    scored = track_and_score(
        find_truth(tmp_path / "gt"), load_config([OFF]), Cache(tmp_path / "cache"), detections=tmp_path / "det"
    ).scored.combined.scores
    assert (scored.misses, scored.false_positives) == (10, 0)


# --- parts of a sequence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [3, 10, 31])
def test_both_halves_together_have_every_row_and_detection_once(tmp_path: Path, frames: int) -> None:
    (whole,) = load_written(write_sequence(tmp_path, frames=frames), load_config())
    split = halves([whole])
    (first,), (second,) = split.train, split.held_out
    middle = frames // 2 + 1
    assert (len(first.detected), len(second.detected)) == (middle, frames - middle)
    assert [*first.detected.detections, *second.detected.detections] == whole.detected.detections
    assert (first.detected.first, second.detected.first) == (0, middle)
    for part in (first, second):
        assert part.name == "walk"
        assert part.detected.timestamps.tolist() == pytest.approx([k / 10 for k in range(len(part.detected))])
        assert part.detected.rate_hz == 10
    tables = first.table, second.table
    np.testing.assert_array_equal(
        np.concatenate([first.table.frames, second.table.frames + middle]), whole.table.frames
    )
    for name in ("ids", "ltwh", "scores", "classes", "visibility", "lines"):
        joined = np.concatenate([getattr(table, name) for table in tables])
        np.testing.assert_array_equal(joined, getattr(whole.table, name))


@pytest.mark.parametrize("every", [1, 2, 3, 40])
def test_a_subsampled_sequence_has_a_lower_rate(tmp_path: Path, every: int) -> None:
    (whole,) = load_written(write_sequence(tmp_path, frames=20), load_config())
    thin = whole.subsampled(every)
    assert thin.detected.detections == whole.detected.detections[::every]
    assert thin.detected.timestamps.tolist() == pytest.approx(whole.detected.timestamps[::every].tolist())
    assert thin.detected.rate_hz == 10 / every
    assert [thin.detected.frame_of(k) for k in range(len(thin.detected))] == list(range(0, 20, every))
    kept = whole.table.frames % every == 0
    assert thin.table.lines.tolist() == whole.table.lines[kept].tolist()
    assert (thin.table.frames * every).tolist() == whole.table.frames[kept].tolist()


def test_a_part_of_a_subsampled_sequence_has_the_right_frames(tmp_path: Path) -> None:
    (whole,) = load_written(write_sequence(tmp_path, frames=20), load_config())
    part = whole.clip(2, 20).subsampled(3).clip(1, 4)
    assert [part.detected.frame_of(k) for k in range(3)] == [5, 8, 11]
    assert part.detected.detections == [whole.detected.detections[k] for k in (5, 8, 11)]


def test_a_sequence_without_a_second_half_is_refused(tmp_path: Path) -> None:
    (whole,) = load_written(write_sequence(tmp_path, frames=2), load_config())
    with pytest.raises(InvalidData, match="walk has too few frames"):
        halves([whole])


def test_a_part_of_a_part_is_a_part(tmp_path: Path) -> None:
    (whole,) = load_written(write_sequence(tmp_path, frames=20), load_config())
    direct, twice = whole.clip(8, 15), whole.clip(5, 18).clip(3, 10)
    assert twice.detected.detections == direct.detected.detections == whole.detected.detections[8:15]
    assert twice.detected.first == direct.detected.first == 8
    assert twice.detected.timestamps.tolist() == pytest.approx(direct.detected.timestamps.tolist())
    assert twice.table.lines.tolist() == direct.table.lines.tolist()
    assert twice.table.frames.tolist() == direct.table.frames.tolist()


class RecordingAppearance:
    """An appearance that records the requested frames and boxes."""

    def __init__(self) -> None:
        self.frames: list[int] = []

    def at(self, frame: int) -> EmbedFrameBoxes:
        async def embed(boxes: FloatArray) -> FloatArray:
            self.frames.append(frame)
            return np.tile(np.array([[0.6, 0.8]], np.float32), (len(boxes), 1))

        return embed


def test_people_in_a_part_are_embedded_from_the_frames_of_the_whole_video(tmp_path: Path) -> None:
    config = load_config([{"reid": {"policy": "always"}}])
    (whole,) = load_written(write_sequence(tmp_path, frames=20), config)
    appearance = RecordingAppearance()
    track_detections(whole.clip(12, 20).detected, config, appearance)  # type: ignore[arg-type]
    assert appearance.frames
    assert set(appearance.frames) <= set(range(12, 20))
    assert max(appearance.frames) == 19


def test_crops_of_a_part_come_from_its_place_in_the_video(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Average(CropEmbedder):
        dimension, crop_size, device = 2, (256, 128), "cpu"

        def embed(self, crops: np.ndarray) -> FloatArray:
            seen.extend(crops[:, 5, 5, 0].tolist())
            return np.tile(np.array([[0.6, 0.8]], np.float32), (len(crops), 1))

    monkeypatch.setattr("motserve.lab.experiments.models.build_embedder", lambda *_: Average())
    (tmp_path / "reid.onnx").touch()
    config = load_config([{"reid": {"policy": "always", "weights": str(tmp_path / "reid.onnx")}}])
    write(folder / "gt" / "gt.txt", [f"{k},1,1,1,30,30,1,1,1" for k in range(1, 6)])
    det = write(tmp_path / "grey.txt", [f"{k},-1,1,1,30,30,0.9" for k in range(1, 6)])
    (whole,) = load_sequences(find_truth(folder), Models(config), Cache(tmp_path / "cache"), detections=det)
    track_sequence(whole.clip(3, 5), config, Cache(tmp_path / "cache"))
    assert seen == [30, 40]


# --- tracking ---------------------------------------------------------------------------------------------------------


def people_in(index: int) -> Detections:
    """Two walking people; the second is absent for longer than the lost buffer."""
    places = [(10 + index, 5, 50 + index, 105)]
    if not 20 <= index < 40:
        places.append((250 - index, 5, 290 - index, 105))
    return Detections(np.array(places, np.float32), np.full(len(places), 0.9, np.float32), np.zeros(len(places), int))


def two_people(frames: int = 50, rate_hz: float = 10) -> DetectedVideo:
    detections = [people_in(index) for index in range(frames)]
    return DetectedVideo("two", detections, np.arange(frames) / rate_hz, rate_hz, {0: "person"})


def through_the_pipeline(
    video: DetectedVideo, images: Iterable[Image], embed: Any, config: Config
) -> tuple[list[TrackedFrame], PipelineStats]:
    """Track with `motserve.pipeline.track_frames`, the code of `motserve track`."""
    stats = PipelineStats()
    answers = iter(video.detections)

    async def detect(chunk: list[Image]) -> list[Detections]:
        return list(itertools.islice(answers, len(chunk)))

    async def run() -> list[TrackedFrame]:
        times = video.timestamps.tolist()
        frames = (Frame(k, time, image) for k, (time, image) in enumerate(zip(times, images, strict=True)))
        config_ = change_config(config, {"pipeline": {"window": 1}})
        return [f async for chunk in track_frames(frames, detect, embed, config_, stats, video.rate_hz) for f in chunk]

    return asyncio.run(run()), stats


@pytest.mark.parametrize("policy", ["on_demand", "always", "off"])
def test_tracks_and_identities_equal_those_of_the_pipeline(policy: str) -> None:
    # all embeddings are equal here
    config = load_config([{"tracker": {"lost_buffer_s": 1}, "reid": {"policy": policy, "decision": {"margin": 0}}}])
    video = two_people()

    async def embed(crops: np.ndarray) -> FloatArray:
        return np.tile(np.array([[0.6, 0.8]], np.float32), (len(crops), 1))

    expected, stats = through_the_pipeline(video, np.zeros((50, 120, 320, 3), np.uint8), embed, config)
    appearance = RecordingAppearance()
    found = track_detections(video, config, None if policy == "off" else appearance)  # type: ignore[arg-type]
    assert rows(found.frames) == rows(expected)
    assert stats.identities == (3 if policy == "off" else 2)
    assert bool(appearance.frames) == (policy != "off")


def test_tracks_of_a_rendered_scene_equal_those_of_the_pipeline(scene: Path, bundled: Config, tmp_path: Path) -> None:
    models, cache = Models(bundled), Cache(tmp_path)
    footage = Footage(scene / "plaza.mp4", bundled.video)
    detected = detect_video("plaza", footage, models, cache)
    with Appearance(footage, models, cache) as appearance:
        found = track_detections(detected, bundled, appearance, footage)

    async def detect(images: list[Image]) -> list[Detections]:
        return models.detector.detect(images)

    async def embed(crops: np.ndarray) -> FloatArray:
        return models.embedder.embed(crops)

    async def run() -> list[TrackedFrame]:
        with open_video(scene / "plaza.mp4", bundled.video) as video:
            size = (video.info.width, video.info.height)
            chunks = track_frames(video.frames(), detect, embed, bundled, stats, video.info.rate_hz, size)
            return [frame async for chunk in chunks for frame in chunk]

    stats = PipelineStats()
    expected = asyncio.run(run())
    assert stats.identities > 1
    assert stats.embeddings > len(expected)
    assert rows(found.frames) == rows(expected)

    again = load_sequences(find_truth(scene), Models(bundled), cache)
    assert rows(track_sequence(again[0], bundled, cache).frames) == rows(found.frames)


def test_without_pictures_embeddings_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"two: reid\.policy is on_demand.*--videos.*reid\.policy=off"):
        track_detections(two_people(), load_config())


def test_detections_alone_are_tracked_only_without_identities(tmp_path: Path) -> None:
    (sequence,) = load_written(write_sequence(tmp_path), load_config())
    assert sequence.footage is None
    with pytest.raises(InvalidConfig, match="walk"):
        track_sequence(sequence, load_config(), Cache(tmp_path))
    assert len(track_sequence(sequence, load_config([OFF]), Cache(tmp_path)).frames) == 30


def test_an_empty_video_has_no_tracks() -> None:
    found = track_detections(two_people(frames=0), load_config([OFF]))
    assert (found.frames, found.milliseconds.shape) == ([], (0,))


def test_embedding_is_not_counted_as_the_trackers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    class SlowAppearance(RecordingAppearance):
        def at(self, frame: int) -> EmbedFrameBoxes:
            quick = super().at(frame)

            async def embed(boxes: FloatArray) -> FloatArray:
                clock.now += 50
                return await quick(boxes)

            return embed

    from motserve.tracking import ByteTrack

    update = ByteTrack.update

    def slow_update(self: ByteTrack, detections: Detections, timestamp: float, *cues: object) -> Tracks:
        clock.now += 0.25
        return update(self, detections, timestamp)

    monkeypatch.setattr(ByteTrack, "update", slow_update)
    config = load_config([{"reid": {"policy": "always"}}])
    found = track_detections(two_people(frames=6), config, SlowAppearance(), clock=clock)  # type: ignore[arg-type]
    assert found.milliseconds.tolist() == [250] * 6
    assert clock.now == 100 + 6 * 50.25


def test_a_contender_is_timed_in_its_step_alone_and_its_tracks_are_identities() -> None:
    clock = Clock()
    stepper = Stepper(clock)
    video = two_people(frames=25)
    found = track_with(video, stepper, clock)
    assert found.milliseconds.tolist() == [125] * 25
    assert stepper.timestamps == video.timestamps.tolist()
    assert [frame.index for frame in found.frames] == list(range(25))
    assert [frame.identities.tolist() for frame in found.frames] == [[1, 2]] * 20 + [[1]] * 5


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_written_tracks_have_the_same_scores(tmp_path: Path) -> None:
    write_sequence(tmp_path, "a")
    write_sequence(tmp_path, "b", frames=41, seed=1)
    truths = find_truth(tmp_path / "gt")
    config = load_config([OFF])
    made = track_and_score(truths, config, Cache(tmp_path / "cache"), detections=tmp_path / "det")
    made.write_tracks(tmp_path / "tracks")
    read = score_files(truths, tmp_path / "tracks")
    for one, other in (
        *zip(made.scored.sequences.values(), read.scored.sequences.values(), strict=True),
        (made.scored.combined, read.scored.combined),
    ):
        assert one.scores == other.scores
    assert 0.2 < made.scored.combined.scores.hota < 1
    assert list(made.scored.sequences) == ["a", "b"]
    assert made.weights == {"detector": None, "reid": None}
    for name in truths:
        stated = made.data[name]
        assert stated["ground_truth"] == read.data[name]["ground_truth"]
        assert stated["detections"]["sha256"] == hashlib.sha256((tmp_path / f"det/{name}.txt").read_bytes()).hexdigest()


def test_sequences_have_the_given_order_and_their_own_files(tmp_path: Path) -> None:
    for seed, name in enumerate("cab"):
        write_sequence(tmp_path, name, frames=10 + seed, seed=seed)
    truths = find_truth(tmp_path / "gt")
    order: Mapping[str, TruthFile] = {name: truths[name] for name in "bca"}
    loaded = load_sequences(order, Models(load_config()), Cache(tmp_path), detections=tmp_path / "det")
    assert [sequence.name for sequence in loaded] == ["b", "c", "a"]
    assert [len(sequence.detected) for sequence in loaded] == [12, 10, 11]
    for sequence in loaded:
        assert sequence.rules == rules_for(sequence.name, sequence.table)
        assert sequence.detected.source["file"] == f"{sequence.name}.txt"


def test_the_detector_runs_where_there_is_no_detection_file(scene: Path, bundled: Config, tmp_path: Path) -> None:
    reports = []
    (sequence,) = load_sequences(
        find_truth(scene),
        Models(bundled),
        Cache(tmp_path),
        progress=lambda name, done, total: reports.append((name, done, total)),
    )
    assert reports[-1] == ("plaza", 24, 24)
    assert sequence.footage is not None
    assert sequence.describe()["detections"] == {
        "video": "plaza.mp4",
        "sha256": hashlib.sha256((scene / "plaza.mp4").read_bytes()).hexdigest(),
        "weights": Models(bundled).detector_weights.describe(),
    }
