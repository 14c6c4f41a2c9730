from __future__ import annotations

import os
import random
import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from noise_videos import invalidate

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo, NotFound
from motserve.video import FrameClock, open_video, probe_video
from motserve.video.container import pick_stream
from motserve.video.images.image_header import image_size

CONFIG = VideoConfig()
TICKS = 1000

RED, GREEN, BLUE, GREY = (0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128)


def quadrants(width: int = 64, height: int = 48) -> np.ndarray:
    """Return red, green / blue, grey, so that all rotations and mirrorings differ."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = GREY
    return image


def corners(image: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the colour of each quarter, as the nearest of the four."""
    height, width = image.shape[:2]
    points = [image[y, x].astype(int) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [min((RED, GREEN, BLUE, GREY), key=lambda c: int(np.abs(p - c).sum())) for p in points]


def encode(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: float | None = None,
    hflip: bool = False,
    movflags: str = "",
    options: dict[str, str] | None = None,
) -> Path:
    times = times or [i / 10 for i in range(len(images))]
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "4"} if options is None else options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=hflip)
        for image, time in zip(images, times, strict=True):
            frame = VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noise(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def moving(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """A square that moves across noise, for which encoders use B-frames."""
    images = [noise(1, width, height)[0].copy() for _ in range(count)]
    for i, image in enumerate(images):
        image[10:20, i % (width - 10) : i % (width - 10) + 10] = RED
    return images


def read(path: Path, config: VideoConfig = CONFIG) -> tuple[list[float], list[np.ndarray]]:
    with open_video(path, config) as video:
        frames = list(video.frames())
    assert [frame.index for frame in frames] == list(range(len(frames)))
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3
        assert frame.image.flags.c_contiguous
    return [frame.timestamp for frame in frames], [frame.image for frame in frames]


def open_files() -> set[str]:
    links = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.add(str(entry.readlink()))
        except OSError:
            continue
    return links


def test_variable_frame_rate_keeps_its_timestamps_from_zero(tmp_path: Path) -> None:
    times = [2.0, 2.04, 2.1, 2.5, 2.51, 3.7]
    path = encode(tmp_path / "vfr.mp4", [quadrants()] * len(times), times)
    assert read(path)[0] == pytest.approx([t - 2.0 for t in times], abs=1e-6)


def test_info_describes_the_video_and_colours_are_bgr(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", [quadrants()] * 20)
    with open_video(path, CONFIG) as video:
        info = video.info
    assert (info.width, info.height, info.codec, info.frame_count) == (64, 48, "h264", 20)
    assert info.rate_hz == pytest.approx(10)
    assert info.duration_s == pytest.approx(2.0)
    assert corners(read(path)[1][0]) == [RED, GREEN, BLUE, GREY]


@pytest.mark.parametrize(
    ("rotation", "hflip", "expected"),
    [
        (0, False, [RED, GREEN, BLUE, GREY]),
        (90, False, [GREEN, GREY, RED, BLUE]),
        (180, False, [GREY, BLUE, GREEN, RED]),
        (270, False, [BLUE, RED, GREY, GREEN]),
        (0, True, [GREEN, RED, GREY, BLUE]),
    ],
)
def test_rotation_and_mirroring_are_applied(
    tmp_path: Path, rotation: float, hflip: bool, expected: list[tuple[int, int, int]]
) -> None:
    path = encode(tmp_path / "phone.mp4", [quadrants()] * 2, rotation=rotation, hflip=hflip)
    with open_video(path, CONFIG) as video:
        image = next(video.frames()).image
        assert (video.info.height, video.info.width) == image.shape[:2]
    assert image.shape[:2] == ((64, 48) if rotation in (90, 270) else (48, 64))
    assert corners(image) == expected


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "yuv444p", ".mkv"),
        ("ffv1", "bgra", ".mkv"),
        ("ffv1", "yuv420p", ".mkv"),
        ("mpeg4", "yuv420p", ".avi"),
    ],
)
def test_pixel_formats_come_out_as_bgr(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    path = encode(tmp_path / f"clip{suffix}", [quadrants()] * 3, codec=codec, pix_fmt=pix_fmt, options={})
    images = read(path)[1]
    assert len(images) == 3
    assert corners(images[2]) == [RED, GREEN, BLUE, GREY]


def test_odd_size_and_grey(tmp_path: Path) -> None:
    image = np.full((37, 51, 3), 90, np.uint8)
    path = encode(tmp_path / "grey.mkv", [image] * 3, codec="ffv1", pix_fmt="gray", options={})
    images = read(path)[1]
    assert images[0].shape == (37, 51, 3)
    assert np.abs(images[0].astype(int) - 90).max() <= 2


def test_decoding_equals_opencv(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", noise(5))
    capture = cv2.VideoCapture(str(path))
    for image in read(path)[1]:
        assert np.array_equal(image, capture.read()[1])
    assert not capture.read()[0]


def test_a_later_start_keeps_indices_and_times(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", noise(6))
    with open_video(path, CONFIG) as video:
        whole = list(video.frames())
    with open_video(path, CONFIG) as video:
        rest = list(video.frames(start=4))
    assert [(f.index, f.timestamp) for f in rest] == [(f.index, f.timestamp) for f in whole[4:]]
    assert np.array_equal(rest[0].image, whole[4].image)


def test_frames_can_be_read_only_once(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "clip.mp4", [quadrants()]), CONFIG) as video:
        list(video.frames())
        with pytest.raises(RuntimeError, match=r"clip\.mp4"):
            video.frames()


def test_a_change_of_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = encode(tmp_path / "a.ts", [quadrants()] * 3)
    large = encode(tmp_path / "b.ts", [quadrants(128, 96)] * 3)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    times, images = read(joined)
    assert {image.shape for image in images} == {(48, 64, 3)}
    assert corners(images[-1]) == [RED, GREEN, BLUE, GREY]
    assert all(b > a for a, b in pairwise(times))
    assert len(images) == 6


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def truncated_index(path: Path) -> None:
    data = encode(path, noise(20)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def truncated_data(path: Path) -> None:
    data = encode(path, noise(40), movflags="+faststart").read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("empty.mp4", lambda p: p.write_bytes(b""), "is empty"),
        ("noise.mp4", lambda p: p.write_bytes(random.Random(0).randbytes(20_000)), "not a video"),
        ("notes.txt", lambda p: p.write_text("a line of text\n" * 500), "not a video"),
        ("list.m3u8", lambda p: p.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.ts\n"), "not a video"),
        ("list.mp4", lambda p: p.write_text("ffconcat version 1.0\nfile /etc/hosts\n"), "not a video"),
        ("sound.m4a", audio_only, "no video stream, only audio"),
        ("noindex.mp4", truncated_index, "without a readable index"),
        ("half.mp4", truncated_data, r"cut off.* after \d+ "),
    ],
)
def test_invalid_videos_are_refused_with_name_and_reason(tmp_path: Path, name: str, make: object, reason: str) -> None:
    path = tmp_path / name
    make(path)  # type: ignore[operator]
    with pytest.raises(InvalidVideo, match=rf"{name}.*{reason}"):
        read(path)
    assert str(path) not in open_files()


def test_probing_describes_a_complete_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", noise(12))
    info = probe_video(path, CONFIG)
    assert (info.width, info.height, info.frame_count, info.codec) == (64, 48, 12, "h264")


def test_probing_finds_missing_data_after_a_complete_index(tmp_path: Path) -> None:
    path = tmp_path / "half.mp4"
    truncated_data(path)
    with pytest.raises(InvalidVideo, match=r"posted name.* is (broken or )?cut off"):
        probe_video(path, CONFIG, "posted name")


def test_probing_a_folder_of_images(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), quadrants())
    assert probe_video(tmp_path, CONFIG).frame_count == 1


def test_a_matroska_file_that_ends_before_its_declared_duration_is_cut_off(tmp_path: Path) -> None:
    path = encode(tmp_path / "half.mkv", noise(60))
    data = path.read_bytes()
    assert len(read(path)[0]) == 60
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidVideo, match=r"half\.mkv is (broken or )?cut off.* frames"):
        read(path)


def damaged(path: Path, images: Sequence[np.ndarray], samples: Sequence[int], **options: Any) -> Path:
    """Encode a video and overwrite some of its samples."""
    return invalidate(encode(path, images, **options), samples)


def decode_on(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Set the number of decoding threads."""

    def pick(*arguments: Any) -> Any:
        stream = pick_stream(*arguments)
        stream.thread_count = threads
        return stream

    monkeypatch.setattr("motserve.video.file.pick_stream", pick)


@pytest.mark.parametrize("bframes", ["0", "3"])
@pytest.mark.parametrize("sample", [0, 1, 20, 29, 35, 44, 45, 46, 47, 48, 49])
def test_frames_that_damage_costs_are_counted(tmp_path: Path, sample: int, bframes: str) -> None:
    options = {"crf": "20", "bf": bframes, "g": "10", "b-adapt": "0", "b-pyramid": "none", "sc_threshold": "0"}
    path = damaged(tmp_path / "damaged.mp4", moving(50), [sample], options=options)
    with open_video(path, CONFIG) as video:
        frames = list(video.frames())
        lost = video.frames_damaged
    assert len(frames) == 50 - lost
    # without its key frame the decoder returns no frame up to the next one
    assert 1 <= lost <= 10 if sample % 10 == 0 else lost == 1
    assert all(b.timestamp > a.timestamp for a, b in pairwise(frames))


def test_threads_lose_no_frame_after_a_damaged_one_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = damaged(tmp_path / "damaged.mp4", noise(30), [26], options={"crf": "4", "bf": "0"})
    counts = []
    for threads in (1, 2, 4, 8):
        decode_on(monkeypatch, threads)
        with open_video(path, CONFIG) as video:
            counts.append((len(list(video.frames())), video.frames_damaged))
    assert counts == [(29, 1)] * 4


def test_damage_beyond_the_accepted_share_is_refused_at_the_end(tmp_path: Path) -> None:
    options = {"bf": "0", "sc_threshold": "0"}
    path = damaged(tmp_path / "damaged.mp4", moving(20), [9, 10, 11, 12, 13], options=options)
    with open_video(path, CONFIG) as video:
        frames = video.frames()
        assert len(list(islice(frames, 15))) == 15
        with pytest.raises(InvalidVideo, match=r"damaged\.mp4 is damaged: 5 of 20 frames.*video\.max_damaged_share"):
            next(frames)
    assert len(read(path, VideoConfig(max_damaged_share=0.25))[0]) == 15


def test_no_damage_may_be_accepted(tmp_path: Path) -> None:
    path = damaged(tmp_path / "damaged.mp4", noise(40), [20])
    with pytest.raises(InvalidVideo, match="1 of 40 frames"):
        read(path, VideoConfig(max_damaged_share=0))


def with_sound(path: Path, frames: int, bframes: int, video_first: bool, data_stream: bool = False) -> Path:
    """A video of a picture track and a sound track, the sound ending first; a second, small picture track before."""
    with av.open(str(path), "w") as container:
        if video_first:
            video = container.add_stream("libx264", rate=25, options={"bf": str(bframes)})
            sound = container.add_stream("aac", rate=16000)
        else:
            sound = container.add_stream("aac", rate=16000)
            video = container.add_stream("libx264", rate=25, options={"bf": str(bframes)})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sample = AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sample.sample_rate = 16000
        container.mux(sound.encode(sample))
        container.mux(sound.encode(None))
        for image in noise(frames):
            container.mux(video.encode(VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(video.encode(None))
    return path


def count_by_opencv(path: Path) -> int:
    """Count frames with OpenCV, which has its own FFmpeg."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".flv", ".nut"])
@pytest.mark.parametrize("video_first", [True, False])
@pytest.mark.parametrize("bframes", [0, 2])
def test_no_frame_is_lost_with_any_order_of_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, video_first: bool, bframes: int
) -> None:
    path = with_sound(tmp_path / f"clip{suffix}", 30, bframes, video_first)
    assert count_by_opencv(path) == 30
    for threads in (1, 3, 8):
        decode_on(monkeypatch, threads)
        times, _ = read(path)
        assert len(times) == 30
        assert times == pytest.approx([i / 25 for i in range(30)], abs=2e-3)


def test_data_streams_beside_the_video_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "camera.mkv"
    with av.open(str(path), "w") as container:
        container.add_attachment("font.ttf", "application/x-truetype-font", b"font")
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for image in noise(12):
            container.mux(video.encode(VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(video.encode(None))
    assert len(read(path)[0]) == 12


def test_empty_samples_are_neither_counted_nor_decoded(tmp_path: Path) -> None:
    path = tmp_path / "dropped.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = [p for image in noise(20) for p in stream.encode(VideoFrame.from_ndarray(image, format="bgr24"))]
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            if number in (7, 19):
                empty = av.Packet(b"")
                empty.stream, empty.pts, empty.dts = stream, packet.pts, packet.dts
                empty.time_base, empty.duration = packet.time_base, packet.duration
                packet = empty
            container.mux(packet)
    with open_video(path, CONFIG) as video:
        assert video.info.frame_count == 18
        times = [frame.timestamp for frame in video.frames()]
        assert video.frames_damaged == 0
    assert times == pytest.approx([i / 10 for i in range(20) if i not in (7, 19)])


def test_a_file_that_declares_too_many_frames_is_complete_if_its_structure_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / "long.mkv", noise(30))
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88")  # the element Duration, eight bytes
    path.write_bytes(data[: at + 3] + struct.pack(">d", 8000.0) + data[at + 11 :])
    assert len(read(path)[0]) == 30
    assert "long.mkv is complete, but its header is wrong: it declares 8.0 s and ends after 3.0 s" in caplog.text
    path.write_bytes(path.read_bytes()[: len(data) * 2 // 3])
    with pytest.raises(InvalidVideo, match=r"long\.mkv is cut off: it declares 8\.0 s"):
        read(path)


def test_a_flash_video_that_declares_too_many_frames_is_complete(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.flv", noise(30))
    data = path.read_bytes()
    at = data.index(b"duration\x00") + 9
    path.write_bytes(data[:at] + struct.pack(">d", 9.0) + data[at + 8 :])
    assert len(read(path)[0]) == 30
    path.write_bytes(path.read_bytes()[: len(data) * 2 // 3])
    with pytest.raises(InvalidVideo, match=r"long\.flv is cut off: it declares 9\.0 s"):
        read(path)


def test_a_joined_recording_has_one_interval_between_its_recordings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [
        encode(tmp_path / f"{start}.ts", noise(10), [start + i / 10 for i in range(10)])
        for start in (9000, 1800, 80000)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(joined, CONFIG) as video:
        times = [frame.timestamp for frame in video.frames()]
        assert video.info.frame_count is None  # the clock says a day, the file holds seconds
    assert times == pytest.approx([i / 10 for i in range(30)], abs=1e-3)
    assert "restarts of the clock: 2" in caplog.text


def test_a_real_pause_may_be_accepted_where_clocks_may_restart(tmp_path: Path) -> None:
    path = encode(tmp_path / "pause.ts", noise(4), [0, 0.1, 60, 60.1])
    assert read(path)[0] == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-3)
    assert read(path, VideoConfig(max_clock_jump_s=100))[0] == pytest.approx([0, 0.1, 60, 60.1], abs=1e-3)
    assert read(encode(tmp_path / "pause.mp4", noise(4), [0, 0.1, 60, 60.1]))[0][-1] == pytest.approx(60.1)


@pytest.mark.parametrize(("codec", "bframes"), [("libx264", 2), ("mpeg4", 2), ("mpeg4", 0)])
def test_avi_with_frames_out_of_order_keeps_even_times(tmp_path: Path, codec: str, bframes: int) -> None:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": str(bframes)})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in noise(25):
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    with open_video(path, CONFIG) as video:
        assert (video.info.rate_hz, video.info.frame_count) == (25, 25)
        assert [f.timestamp for f in video.frames()] == pytest.approx([i / 25 for i in range(25)])


def test_the_pixel_aspect_is_that_of_the_upright_frame(tmp_path: Path) -> None:
    for rotation, size, aspect in ((0, (64, 48), 2.0), (90, (48, 64), 0.5)):
        path = tmp_path / f"{rotation}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.sample_aspect_ratio = Fraction(2)
            stream.set_display_rotation(rotation)
            container.mux(stream.encode(VideoFrame.from_ndarray(quadrants(), format="bgr24")))
            container.mux(stream.encode(None))
        info = probe_video(path, CONFIG)
        assert ((info.width, info.height), info.pixel_aspect) == (size, aspect)


def test_the_video_goes_by_the_given_name_in_messages(tmp_path: Path) -> None:
    (tmp_path / "0123abcd").write_bytes(b"")
    with pytest.raises(InvalidVideo, match=r"^holiday\.mp4 is empty"):
        open_video(tmp_path / "0123abcd", CONFIG, name="holiday.mp4")


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.mp4"):
        open_video(tmp_path / "nowhere.mp4", CONFIG)


def test_limits_on_size_and_length(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", [quadrants()] * 12)
    with pytest.raises(InvalidVideo, match=r"clip\.mp4.*64x48.*1024 pixels"):
        open_video(path, VideoConfig(max_pixels=1024))
    with pytest.raises(InvalidVideo, match=r"clip\.mp4 has more than 11 frames"):
        open_video(path, VideoConfig(max_frames=11))
    assert len(read(path, VideoConfig(max_frames=12, max_pixels=64 * 48))[0]) == 12
    stream = encode(tmp_path / "clip.ts", [quadrants()] * 12)
    with pytest.raises(InvalidVideo, match=r"clip\.ts has more than 11 frames"):
        read(stream, VideoConfig(max_frames=11))


def test_files_are_closed_when_reading_stops_early(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", noise(10))
    with open_video(path, CONFIG) as video:
        next(video.frames())
        assert str(path) in open_files()
    assert str(path) not in open_files()


def test_a_file_name_is_never_read_as_an_address_or_a_pattern(tmp_path: Path) -> None:
    for name in ("http:clip.mp4", "concat:a|b.mp4", "clip%03d.mp4"):
        assert len(read(encode(tmp_path / "clip.mp4", [quadrants()] * 2).rename(tmp_path / name))[0]) == 2


def sequence(folder: Path, count: int = 12, size: tuple[int, int] = (64, 48)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i + 1}.png"), np.full((size[1], size[0], 3), i, np.uint8))
    return folder


def test_image_folder_in_natural_order(tmp_path: Path) -> None:
    sequence(tmp_path / "clip")
    (tmp_path / "clip" / "notes.txt").write_text("not an image")
    times, images = read(tmp_path / "clip", VideoConfig(image_folder_rate_hz=4))
    assert [int(image[0, 0, 0]) for image in images] == list(range(12))
    assert times == pytest.approx([i / 4 for i in range(12)])


def test_mot_sequence_folder_takes_its_rate_from_seqinfo(tmp_path: Path) -> None:
    sequence(tmp_path / "MOT" / "img1")
    (tmp_path / "MOT" / "seqinfo.ini").write_text("[Sequence]\nname=MOT\nframeRate=25\n")
    with open_video(tmp_path / "MOT", CONFIG) as video:
        assert (video.info.rate_hz, video.info.frame_count, video.info.duration_s) == (25, 12, 12 / 25)
        assert [f.timestamp for f in video.frames(start=10)] == [10 / 25, 11 / 25]


@pytest.mark.parametrize("ini", ["frameRate=25", "[Sequence]\nframeRate=fast", "[Sequence]\nframeRate=0"])
def test_malformed_seqinfo(tmp_path: Path, ini: str) -> None:
    sequence(tmp_path, 1)
    (tmp_path / "seqinfo.ini").write_text(ini)
    with pytest.raises(InvalidVideo, match=r"seqinfo\.ini"):
        open_video(tmp_path, CONFIG)


def test_image_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidVideo, match="none: no images"):
        open_video(tmp_path / "none", CONFIG)
    with pytest.raises(InvalidVideo, match="12 images, more than the limit of 5"):
        open_video(sequence(tmp_path / "many"), VideoConfig(max_frames=5))
    with pytest.raises(InvalidVideo, match=r"1\.png of 64x48 exceeds"):
        open_video(tmp_path / "many", VideoConfig(max_pixels=1024))
    cv2.imwrite(str(tmp_path / "many" / "7.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(InvalidVideo, match=r"7\.png is 9x9, the first image is 64x48"):
        read(tmp_path / "many")
    (tmp_path / "many" / "2.png").write_bytes(b"no image")
    with pytest.raises(InvalidVideo, match=r"many: 2\.png is not a complete"):
        read(tmp_path / "many")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_cut_off_images_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"1{suffix}"
    cv2.imwrite(str(path), noise(1, 60, 40)[0])
    data = path.read_bytes()
    assert image_size(data) == (60, 40)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidVideo, match="not a complete JPEG or PNG"):
        open_video(tmp_path, CONFIG)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff", b"\xff\xd8\xff\xe0\x00\x00" * 9])
def test_image_size_of_garbage(data: bytes) -> None:
    assert image_size(data) is None


def test_clock_with_good_times_of_any_spacing_changes_nothing() -> None:
    times = [7.0, 7.001, 8.5, 30.0, 30.04]
    clock = FrameClock(0.04)
    assert [clock.stamp(t, t - 0.1) for t in times] == [t - 7.0 for t in times]
    assert clock.repaired == 0


def test_clock_that_begins_late_continues_from_the_time_of_its_frame() -> None:
    clock = FrameClock(0.04)
    assert [clock.stamp(t) for t in (None, None, 3600.0, 3600.04)] == pytest.approx([0.0, 0.04, 0.08, 0.12])
    assert clock.repaired == 2


def test_clock_changes_to_decoding_times_without_a_step() -> None:
    clock = FrameClock(1.0)
    times = [clock.stamp(*t) for t in ((2, 4), (3, 5), (1, 6), (4, 7), (6, 8), (5, None))]
    assert times == pytest.approx([0, 1, 2, 3, 4, 5])


def test_clock_keeps_pauses_up_to_the_longest_jump() -> None:
    assert [FrameClock(0.1).stamp(t) for t in (0.0,)] == [0.0]
    patient, strict, slow = FrameClock(0.1), FrameClock(0.1, max_jump_s=10), FrameClock(60, max_jump_s=10)
    assert [patient.stamp(t) for t in (0.0, 5000.0)] == [0.0, 5000.0]
    assert [strict.stamp(t) for t in (0.0, 10.0, 20.1, 20.2)] == pytest.approx([0.0, 10.0, 10.1, 10.2])
    assert strict.restarts == 1
    assert [slow.stamp(t) for t in (0.0, 60.0, 120.0)] == [0.0, 60.0, 120.0]


def test_clock_without_any_time_runs_at_the_nominal_rate() -> None:
    clock = FrameClock(0.5)
    assert [clock.stamp(None) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]


def test_clock_always_increases() -> None:
    rng = random.Random(1)
    clock = FrameClock(0.04)
    times = [clock.stamp(rng.choice([None, rng.uniform(-5, 5)]), rng.choice([None, 1.0])) for _ in range(500)]
    assert all(b > a for a, b in pairwise(times))


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_clock_needs_a_positive_interval(interval: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        FrameClock(interval)


@pytest.mark.skipif("MOTSERVE_DATA" not in os.environ, reason="MOTSERVE_DATA is not set: no real clips")
@pytest.mark.parametrize(
    ("clip", "count", "interval"),
    [
        ("video/intel_people-detection.mp4", 594, 1 / 25),
        ("video/intel_one-by-one-person-detection.mp4", 1394, 1 / 10),
        ("video/samihormi_Single1.mp4", 220, 100 / 2997),
        ("mot/PETS09-S2L1/PETS09-S2L1.mp4", 795, 1 / 7),
        ("mot/TUD-Campus", 71, 1 / 25),
    ],
)
def test_real_clips(clip: str, count: int, interval: float) -> None:
    with open_video(Path(os.environ["MOTSERVE_DATA"]) / clip, CONFIG) as video:
        times = np.array([frame.timestamp for frame in video.frames()])
        assert video.info.frame_count == count
    assert len(times) == count
    steps = np.diff(times)
    assert np.median(steps) == pytest.approx(interval, abs=1e-6)
    assert steps.min() > 0.4 * interval
    if "intel_people" not in clip:
        assert times == pytest.approx(np.arange(count) * interval, abs=1e-3)


def test_a_frame_that_grows_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    small, large = encode(tmp_path / "a.ts", [quadrants()] * 3), encode(tmp_path / "b.ts", [quadrants(640, 480)] * 3)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(InvalidVideo, match=r"joined\.ts"):
        read(joined, VideoConfig(max_pixels=64 * 48))
