"""Image folders with gaps in their numbers, hidden files, unusual images and descriptions."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from motserve.config import Config, VideoConfig, load_config
from motserve.errors import InvalidVideo
from motserve.pipeline.loop import track_frames_with
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import VideoTracker
from motserve.results import ResultWriter, export, read_lines, read_mot, read_results
from motserve.types import Detections, Frame, Image
from motserve.video import annotate_video, open_video
from motserve.video.images.image_header import image_file_size, image_size

CONFIG = VideoConfig()
SEQINFO = "[Sequence]\nname=x\nimDir={}\nframeRate=25\n"
NAMES = {0: "person"}


def pictures(folder: Path, names: Iterable[str], size: tuple[int, int] = (64, 48)) -> Path:
    """Write pictures of rising grey: 10 for the first, 20 for the second."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names, 1):
        _, data = cv2.imencode(Path(name).suffix, np.full((size[1], size[0], 3), 10 * place, np.uint8))
        (folder / name).write_bytes(data.tobytes())
    return folder


def frames(folder: Path, config: VideoConfig = CONFIG, start: int = 0) -> list[Frame]:
    with open_video(folder, config) as source:
        return list(source.frames(start))


def indices(folder: Path, config: VideoConfig = CONFIG) -> list[int]:
    return [frame.index for frame in frames(folder, config)]


def refusal(folder: Path, config: VideoConfig = CONFIG) -> str:
    with pytest.raises(InvalidVideo) as caught:
        frames(folder, config)
    return str(caught.value)


# --- numbers


@pytest.mark.parametrize(
    ("folder", "names", "numbers"),
    [
        ("img1", "000001.jpg 000002.jpg 000004.jpg 000007.jpg 000008.jpg", [0, 1, 3, 6, 7]),
        ("img1", "000301.jpg 000302.jpg", [300, 301]),
        ("img1", "000000.jpg 000001.jpg 000003.jpg", [0, 1, 3]),
        (".", "7.png 8.png 10.png", [0, 1, 3]),
        (".", "frame_0001.jpg frame_0002.png frame_0004.JPG", [0, 1, 3]),
        (".", "f-5.jpg f-10.jpg f-15.jpg", [0, 5, 10]),
        (".", "7.png", [0]),
        # names that do not number the pictures, or number something else
        (".", "a1.jpg b2.jpg b4.jpg", [0, 1, 2]),
        (".", "1.jpg 3.jpg cover.jpg", [0, 1, 2]),
        (".", "1.jpg 01.png 3.jpg", [0, 1, 2]),
        (".", "0.jpg 40.jpg 80.jpg 160.jpg", [0, 1, 2, 3]),
        (".", "20240131235959.jpg 20240201000000.jpg", [0, 1]),
        ("img1", "20240131235959.jpg 20240131235960.jpg", [0, 1]),
        (".", f"1.jpg {'9' * 200}.jpg", [0, 1]),
    ],
)
def test_image_names_give_the_frame_numbers(tmp_path: Path, folder: str, names: str, numbers: list[int]) -> None:
    pictures(tmp_path / "clip" / folder, names.split())
    assert indices(tmp_path / "clip") == numbers


def test_times_and_duration_follow_the_numbers_and_the_count_is_that_of_the_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pictures(tmp_path / "clip", [f"{number}.png" for number in (1, 2, 4, 7, 8)])
    config = VideoConfig(image_folder_rate_hz=4)
    with open_video(folder, config) as source:
        assert (source.info.frame_count, source.info.duration_s) == (5, 8 / 4)
        assert [frame.timestamp for frame in source.frames()] == [0, 1 / 4, 3 / 4, 6 / 4, 7 / 4]
    assert caplog.messages == ["clip: missing images: 3, 5, 6; the others keep their frame numbers and times"]
    assert [(frame.index, int(frame.image[0, 0, 0])) for frame in frames(folder, config, start=3)] == [(6, 40), (7, 50)]


def test_many_missing_images_are_listed_briefly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path / "clip", ["1.png", "2.png", "3.png", "400000.png"])
    assert indices(tmp_path / "clip") == [0, 1, 2, 399999]
    assert "missing images: 4, 5, 6, 7, 8 and 399991 more;" in caplog.text


def test_numbers_beyond_the_frame_limit_are_not_frame_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = pictures(tmp_path / "clip", ["1.png", "2.png", "50.png"])
    assert indices(folder, VideoConfig(max_frames=50)) == [0, 1, 49]
    caplog.clear()
    assert indices(folder, VideoConfig(max_frames=49)) == [0, 1, 2]
    assert "do not seem to be frame numbers; the images are taken as successive frames at 30 Hz" in caplog.text


def test_complete_folders_log_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place, names in (("img1", ["000001.png", "000002.png"]), ("a", ["7.png", "8.png"]), ("b", ["x.png", "y.png"])):
        assert indices(pictures(tmp_path / place, names)) == [0, 1]
    assert indices(pictures(tmp_path / "dates", ["20240131235958.png", "20240131235959.png"])) == [0, 1]
    assert not caplog.text


def person_of(image: Image) -> Detections:
    """A person who walks ten pixels per frame; the grey of the image is the left edge of the box in pixels."""
    left = float(image[0, 0, 0])
    return Detections(np.array([[left, 20, left + 40, 120]], np.float32), np.array([0.9], np.float32), np.array([0]))


async def detect(images: list[Image]) -> list[Detections]:
    return [person_of(image) for image in images]


async def embed(_: np.ndarray) -> np.ndarray:
    raise AssertionError("the configuration uses no embeddings")


def walk(folder: Path, numbers: Iterable[int]) -> Path:
    """Write the given pictures of a walk; the grey level of picture n is 10 n."""
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:06}.png"), np.full((150, 320, 3), 10 * number, np.uint8))
    return folder


def track(
    source: Iterator[Frame], video_tracker: VideoTracker, config: Config, results: ResultWriter, chunks: int = 99
) -> None:
    async def run() -> None:
        done = 0
        async for chunk in track_frames_with(source, detect, embed, config, video_tracker):
            results.append(chunk)
            done += 1
            if done == chunks:
                break

    asyncio.run(run())


NO_REID = load_config([{"reid": {"policy": "off"}, "pipeline": {"chunk_size": 2, "window": 1}}])


def test_a_track_survives_a_missing_image_and_keeps_the_frame_numbers(
    tmp_path: Path,
) -> None:
    there = [number for number in range(1, 15) if number not in (6, 11, 12)]
    walk(tmp_path / "walk" / "img1", there)
    config = load_config([{"reid": {"policy": "off"}, "video": {"image_folder_rate_hz": 10}}])
    lines = tmp_path / "tracks.ndjson"
    with open_video(tmp_path / "walk", config.video) as source, ResultWriter(lines, NAMES) as results:
        track(source.frames(), VideoTracker(config, PipelineStats(), source.info.rate_hz), config, results)
    mot = tmp_path / "tracks.txt"
    mot.write_bytes(b"".join(export(read_lines(lines), "mot")))
    table = read_mot(mot)
    assert (table.frames + 1).tolist() == there
    assert set(table.ids.tolist()) == {1}
    assert table.boxes[:, 0].tolist() == pytest.approx([10 * number for number in there], abs=2)


def test_tracking_resumes_by_the_count_of_frames_instead_of_their_numbers(tmp_path: Path) -> None:
    folder = walk(tmp_path / "walk", [1, 2, 4, 7, 8, 9, 12, 13])
    whole, cut = tmp_path / "whole.ndjson", tmp_path / "cut.ndjson"
    with open_video(folder, CONFIG) as source, ResultWriter(whole, NAMES) as results:
        track(source.frames(), VideoTracker(NO_REID, PipelineStats(), 30), NO_REID, results)
    stats = PipelineStats()
    video_tracker = VideoTracker(NO_REID, stats, 30)
    with open_video(folder, CONFIG) as source, ResultWriter(cut, NAMES) as results:
        track(source.frames(), video_tracker, NO_REID, results, chunks=2)
    assert stats.frames == 3  # chunks of one and two frames
    cut.write_bytes(cut.read_bytes() + b'{"frame":6,"timest')
    with open_video(folder, CONFIG) as source, ResultWriter(cut, NAMES, resume_at=stats.frames) as results:
        track(source.frames(stats.frames), video_tracker, NO_REID, results)
    assert cut.read_bytes() == whole.read_bytes()
    assert cut.read_bytes().count(b"\n") == 8


def test_a_folder_with_gaps_is_drawn_with_the_tracks_of_its_frames(tmp_path: Path) -> None:
    folder = walk(tmp_path / "walk", [1, 2, 4, 7])
    lines = tmp_path / "tracks.ndjson"
    with open_video(folder, CONFIG) as source, ResultWriter(lines, NAMES) as results:
        track(source.frames(), VideoTracker(NO_REID, PipelineStats(), 30), NO_REID, results)
    assert annotate_video(folder, read_results(lines, NAMES), tmp_path / "a.mp4", CONFIG, NAMES) == 4
    with open_video(tmp_path / "a.mp4", CONFIG) as drawn:
        assert [frame.timestamp for frame in drawn.frames()] == pytest.approx([0, 1 / 30, 3 / 30, 6 / 30], abs=1e-4)


# --- hidden files


def test_hidden_files_of_operating_systems_are_skipped(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "clip", ["000001.jpg", "000002.jpg"])
    for name in ("._000001.jpg", ".DS_Store", "Thumbs.db", ".hidden.png", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert [frame.index for frame in frames(folder)] == [0, 1]
    (folder / "000001.jpg").unlink()
    (folder / "000002.jpg").unlink()
    assert "no images (.jpeg, .jpg, .png)" in refusal(folder)


# --- seqinfo.ini


@pytest.mark.parametrize("name", ["images", "img1", "frames/left", "50%", "./images/", "b\udce4"])
@pytest.mark.parametrize("text", [SEQINFO, f"\ufeff[Other]\r\nx=%(y)s\r\n{SEQINFO}[More]\n", SEQINFO.lower()])
def test_images_are_read_from_the_folder_in_seqinfo(tmp_path: Path, name: str, text: str) -> None:
    pictures(tmp_path / "clip" / name, ["000001.jpg", "000003.jpg"])
    pictures(tmp_path / "clip" / "img1", ["000001.jpg", "000003.jpg"])
    (tmp_path / "clip" / "img1" / "000009.txt").touch()
    (tmp_path / "clip" / "seqinfo.ini").write_bytes(os.fsencode(text.format(name)))
    with open_video(tmp_path / "clip", CONFIG) as source:
        assert (source.info.rate_hz, source.info.duration_s) == (25, 3 / 25)
        assert [frame.index for frame in source.frames()] == [0, 2]


def test_frames_of_a_sequence_count_from_1_also_where_its_folder_has_another_name(tmp_path: Path) -> None:
    pictures(tmp_path / "clip" / "images", ["000004.jpg", "000005.jpg"])
    assert refusal(tmp_path / "clip").startswith("clip: no images")
    assert indices(tmp_path / "clip" / "images") == [0, 1]
    (tmp_path / "clip" / "seqinfo.ini").write_text(SEQINFO.format("images"))
    assert indices(tmp_path / "clip") == [3, 4]


@pytest.mark.parametrize(
    "name", ["../clip/images", "/etc", "C:\\data", "\\\\host\\share", "a\0b", "a" * 300, "x/../.."]
)
def test_a_folder_outside_of_the_sequence_is_refused(tmp_path: Path, name: str) -> None:
    pictures(tmp_path / "clip" / "images", ["000001.jpg"])
    (tmp_path / "clip" / "seqinfo.ini").write_text(SEQINFO.format(name))
    assert "seqinfo.ini: imDir must be a folder inside that of the file" in refusal(tmp_path / "clip")


def test_a_missing_image_folder_is_named_and_the_sequence_folder_is_the_default(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "clip" / "img1", ["000001.jpg"]).parent
    (folder / "seqinfo.ini").write_text(SEQINFO.format("images"))
    assert refusal(folder) == f"{folder}/seqinfo.ini: the folder of the images, imDir='images', is missing"
    pictures(folder, ["000001.jpg", "000002.jpg"])
    assert indices(folder) == [0, 1]


@pytest.mark.parametrize("rate", ["0", "-5", "nan", "inf", "1e-320", "1e308", "fast", "25,0"])
def test_an_invalid_rate_is_refused(tmp_path: Path, rate: str) -> None:
    pictures(tmp_path / "clip", ["1.jpg"])
    (tmp_path / "clip" / "seqinfo.ini").write_text(f"[Sequence]\nframeRate={rate}\nseqLength=no number\n")
    assert "seqinfo.ini: frameRate must be" in refusal(tmp_path / "clip")


@pytest.mark.parametrize(
    "text", ["frameRate=25", "[Other]\nframeRate=25\n", "[Sequence]\nname=1\nname=2\n", "\ufeff\0"]
)
def test_an_invalid_seqinfo_is_named(tmp_path: Path, text: str) -> None:
    pictures(tmp_path / "clip", ["1.jpg"])
    for data in (text.encode(), text.encode("utf-16")):
        (tmp_path / "clip" / "seqinfo.ini").write_bytes(data)
        assert refusal(tmp_path / "clip").startswith(f"{tmp_path}/clip/seqinfo.ini is not a valid seqinfo.ini: ")


def test_images_that_exist_as_jpeg_and_png_are_read_once(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "clip", ["1.jpg", "2.jpg", "3.png", "1.png"])
    assert refusal(folder).startswith("clip: 1.jpg and 1.png are the same image twice; remove the files of one kind")
    (folder / "seqinfo.ini").write_text("[Sequence]\nimExt=PNG\n")
    assert [(frame.index, int(frame.image[0, 0, 0])) for frame in frames(folder)] == [(0, 40), (2, 30)]
    (folder / "seqinfo.ini").write_text("[Sequence]\nimExt=.bmp\n")
    assert "twice" in refusal(folder)
    (folder / "1.png").unlink()
    assert indices(folder) == [0, 1, 2]


# --- files


def encoded(suffix: str, **options: object) -> bytes:
    file = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Pillow.fromarray(pixels).convert(str(options.pop("mode", "RGB"))).save(file, suffix, **options)
    return file.getvalue()


PNG, JPEG = encoded("png"), encoded("jpeg")


def size_of(data: bytes, tmp_path: Path) -> tuple[int, int] | None:
    """Return the size of an image; reading it from bytes and from a file must agree."""
    path = tmp_path / "picture"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert image_file_size(file, len(data)) == image_size(data)
    return image_size(data)


@pytest.mark.parametrize("trailer", [b"\0" * 300, b"IEND", b"\xff\xd9\xff\xda", JPEG, PNG, b"\n" * 100_000])
@pytest.mark.parametrize("picture", [PNG, JPEG], ids=["png", "jpeg"])
def test_bytes_after_the_end_of_an_image_are_ignored(tmp_path: Path, picture: bytes, trailer: bytes) -> None:
    assert size_of(picture + trailer, tmp_path) == (64, 48)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "1.png").write_bytes(picture + trailer)
    assert len(frames(tmp_path / "clip")) == 1


@pytest.mark.parametrize(
    "data",
    [
        *(PNG[:length] for length in (8, 20, 33, 500, len(PNG) - 12, len(PNG) - 1)),
        *(JPEG[:length] for length in (3, 20, 500, len(JPEG) - 2, len(JPEG) - 1)),
        PNG[: len(PNG) // 2] + b"\0" * 5000,
        JPEG[: len(JPEG) // 2] + b"\0" * 5000,
        PNG[:33] + b"\xff\xff\xff\xff" + PNG[37:],  # a chunk whose length is beyond the end
        PNG[:33] + PNG[-12:],  # no pixels
        PNG[:8] + PNG[33:],  # no header
        PNG[:16] + bytes(8) + PNG[24:],  # no area
        b"",
        b"<html>",
    ],
)
def test_truncated_and_other_files_have_no_image_size(tmp_path: Path, data: bytes) -> None:
    assert size_of(data, tmp_path) is None


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("png", {"mode": "L"}),
        ("png", {"mode": "1"}),
        ("png", {"mode": "P"}),
        ("png", {"mode": "RGBA"}),
        ("png", {"mode": "I;16"}),
        ("jpeg", {"mode": "L"}),
        ("jpeg", {"mode": "CMYK"}),
        ("jpeg", {"progressive": True}),
    ],
)
def test_all_kinds_of_images_are_read_as_bgr(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    grey = options.get("mode") == "I;16"
    data = encoded(suffix, **options) if not grey else cv2.imencode(".png", np.full((48, 64), 600, np.uint16))[1]
    (tmp_path / f"1.{suffix}").write_bytes(bytes(data))
    (frame,) = frames(tmp_path)
    assert frame.image.shape == (48, 64, 3)
    assert frame.image.dtype == np.uint8


def test_images_are_rotated_by_their_exif_orientation(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    (tmp_path / "1.jpg").write_bytes(encoded("jpeg", exif=exif))
    assert frames(tmp_path)[0].image.shape == (64, 48, 3)
    (tmp_path / "2.jpg").write_bytes(JPEG)
    assert "2.jpg is 64x48, the first image is 48x64" in refusal(tmp_path)


def test_links_are_followed_and_unreadable_images_are_named(tmp_path: Path) -> None:
    pictures(tmp_path / "store", ["a.png", "b.png"])
    (tmp_path / "clip").mkdir()
    for number, name in ((1, "a"), (2, "b")):
        (tmp_path / "clip" / f"{number}.PNG").symlink_to(tmp_path / "store" / f"{name}.png")
    (tmp_path / "clip" / "3.png").mkdir()
    assert indices(tmp_path / "clip") == [0, 1]
    (tmp_path / "clip" / "4.png").symlink_to("gone.png")
    assert refusal(tmp_path / "clip") == "clip: image 4.png cannot be read: No such file or directory"
    (tmp_path / "clip" / "4.png").unlink()
    (tmp_path / "clip" / "4.png").touch()
    assert refusal(tmp_path / "clip") == "clip: image 4.png is empty"


def test_names_that_are_not_utf8_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    folder = pictures(tmp_path / "stra\udcdfe", ["b \udce4_1.jpg", "b \udce4_3.jpg"])
    assert indices(folder) == [0, 2]
    assert "missing images: 2;" in caplog.text
