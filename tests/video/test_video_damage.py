from __future__ import annotations

import gc
import random
import struct
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from noise_videos import CONFIG, FRAMES, count, damage, encode

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.video import FrameClock, completeness, open_video
from motserve.video.completeness import is_cut_off
from motserve.video.decoder import PacketReader
from motserve.video.mp4_boxes import refuse_false_samples


def test_two_videos_read_at_the_same_time_do_not_affect_each_other(tmp_path: Path) -> None:
    path = damage(encode(tmp_path / "clip.mp4"), -2)
    with open_video(path, CONFIG) as video:
        frames = video.frames()
        first = list(islice(frames, 26))
        assert count(path) == (FRAMES - 1, 1)
        gc.collect()  # frees the packets of the other video
        assert len(first) + sum(1 for _ in frames) == FRAMES - 1
        assert video.frames_damaged == 1


@pytest.mark.parametrize("samples", [(0,), (14, 15), (-1,)])
def test_a_few_damaged_samples_cost_only_their_frames(tmp_path: Path, samples: tuple[int, ...]) -> None:
    path = damage(encode(tmp_path / "clip.mov", "mjpeg"), *samples)
    assert count(path) == (FRAMES - len(samples), len(samples))


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("suffix", ["avi", "wmv"])
def test_a_file_that_is_cut_off_with_its_index_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    codec = {"avi": "mpeg4", "wmv": "wmv2"}[suffix]
    path = encode(tmp_path / f"clip.{suffix}", codec, frames=75)
    data = path.read_bytes()
    assert count(path) == (75, 0)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InvalidVideo, match=rf"clip\.{suffix} is cut off.* ends after"):
        count(path)


def test_an_avi_without_its_index_keeps_its_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.avi", "mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])
    with open_video(path, CONFIG) as video:
        assert (video.info.rate_hz, video.info.frame_count) == (25, FRAMES)
        assert sum(1 for _ in video.frames()) == FRAMES


def test_joined_recordings_of_two_senders_are_one_video(tmp_path: Path) -> None:
    first, second = encode(tmp_path / "a.ts"), encode(tmp_path / "b.ts", mpegts_start_pid="600")
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert count(path) == (2 * FRAMES, 0)


class LateStreams:
    """A container in which a stream appears late, so PyAV does not flush it at the end."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def demux(self) -> Iterator[Any]:
        yield from self._container.demux()
        raise IndexError("list index out of range")


def test_streams_that_appear_late_are_skipped(tmp_path: Path) -> None:
    with av.open(str(encode(tmp_path / "clip.ts"))) as container:
        reader = PacketReader(LateStreams(container), container.streams.video[0])  # type: ignore[arg-type]
        assert sum(1 for _ in reader.read()) == FRAMES
        assert reader.is_partial


def with_numbers(path: Path, box: bytes, offset: int, *numbers: int) -> Path:
    """Overwrite numbers of 32 bits in the last box of a kind."""
    data = bytearray(path.read_bytes())
    struct.pack_into(f">{len(numbers)}I", data, data.rindex(box) + 4 + offset, *numbers)
    path.write_bytes(data)
    return path


def test_an_index_of_millions_of_samples_in_a_small_file_takes_no_memory(tmp_path: Path) -> None:
    path = with_numbers(encode(tmp_path / "many.mp4"), b"stsz", 4, 1, 80_000_000)
    with pytest.raises(InvalidVideo, match=r"many\.mp4 has more than 1000000 frames, the limit \(video\.max_frames\)"):
        open_video(path, CONFIG)
    with pytest.raises(
        InvalidVideo, match=r"many\.mp4 is broken: it declares 80000000 samples, more than it has bytes for"
    ):
        open_video(path, VideoConfig(max_frames=1_000_000_000))


def test_a_fragment_of_millions_of_samples_takes_no_memory(tmp_path: Path) -> None:
    path = encode(tmp_path / "many.mp4", movflags="frag_keyframe+empty_moov")
    assert count(path) == (FRAMES, 0)
    with pytest.raises(InvalidVideo, match=r"many\.mp4 is broken: it declares 80000000 samples, more than"):
        open_video(with_numbers(path, b"trun", 0, 1, 80_000_000), CONFIG)


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", 8 + len(data), kind) + data


@pytest.mark.parametrize(("handler", "ticks", "refused"), [(b"soun", 1, False), (b"soun", 2, True), (b"text", 1, True)])
def test_compressed_sound_of_old_files_may_declare_more_samples_than_bytes(
    tmp_path: Path, handler: bytes, ticks: int, refused: bool
) -> None:
    rhythm, sizes = struct.pack(">4I", 0, 1, 90_000, ticks), struct.pack(">3I", 0, 1, 90_000)
    table = box(b"minf", box(b"stbl", box(b"stts", rhythm), box(b"stsz", sizes)))
    track = box(b"trak", box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(12)), table))
    path = tmp_path / "old.mov"
    path.write_bytes(box(b"ftyp", b"qt  ", bytes(4)) + box(b"moov", track))
    if not refused:
        refuse_false_samples(path, CONFIG, path.name)
        return
    with pytest.raises(InvalidVideo, match=r"old\.mov is broken: it declares 90000 samples"):
        refuse_false_samples(path, CONFIG, path.name)


def test_a_compressed_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.mov"
    path.write_bytes(encode(tmp_path / "clip.mov").read_bytes().replace(b"mvhd", b"cmov"))
    with pytest.raises(InvalidVideo, match=r"old\.mov has a compressed header"):
        open_video(path, CONFIG)


@pytest.mark.parametrize(("form", "element"), [("matroska,webm", b"\xec\x80"), ("avi", b"RIFF\0\0\0\0")])
def test_the_number_of_checked_elements_is_limited(
    tmp_path: Path, form: str, element: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "elements"
    path.write_bytes(element * 50)
    assert not is_cut_off(path, form)
    monkeypatch.setattr(completeness, "_MOST_ELEMENTS", 49)
    assert is_cut_off(path, form)


def test_concatenated_images_are_a_video_and_a_single_one_is_not(tmp_path: Path) -> None:
    path = encode(tmp_path / "row.mjpeg", "mjpeg", frames=5)
    assert count(path) == (5, 0)
    with pytest.raises(InvalidVideo, match=r"one\.mjpeg is an image, not a video"):
        open_video(encode(tmp_path / "one.mjpeg", "mjpeg", frames=1), CONFIG)


def test_extreme_timestamps_increase_and_are_bounded() -> None:
    rng = random.Random(0)
    clock = FrameClock(1e6)
    times = [clock.stamp(rng.choice([None, rng.uniform(-1e19, 1e19), 0.0, 9e18])) for _ in range(10_000)]
    assert all(b > a for a, b in pairwise(times))
    clock = FrameClock(0.04)
    assert [clock.stamp(t) for t in (0.0, 4e18, 4e18 + 1024, 8e18)] == pytest.approx([0, 0.04, 1024, 1024.04])


def test_timestamps_repeated_by_rounding_do_not_select_decoding_times() -> None:
    clock = FrameClock(0.04)
    times = [clock.stamp(t, t + 0.3 * (i % 2)) for i, t in enumerate((0.0, 0.0, 0.04, 0.08, 0.08, 0.12))]
    assert times == pytest.approx([0, 0.02, 0.04, 0.08, 0.1, 0.12])


def test_constant_timestamps_are_replaced_by_decoding_times() -> None:
    clock = FrameClock(0.04)
    times = [clock.stamp(7.0, 0.04 * i) for i in range(20)]
    assert times[5:] == pytest.approx([0.04 * i for i in range(5, 20)])


def test_a_missing_timestamp_follows_by_one_interval_if_the_decoding_time_is_constant() -> None:
    clock = FrameClock(0.04)
    assert [clock.stamp(*t) for t in ((0.0, 0.0), (0.04, 0.04), (None, 0.04))] == pytest.approx([0, 0.04, 0.08])


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "mjpeg"])
def test_frames_too_large_for_the_decoder_are_refused_for_their_size(tmp_path: Path, codec: str) -> None:
    suffix = "mjpeg" if codec == "mjpeg" else "ts"
    small, large = (encode(tmp_path / f"{w}.{suffix}", codec, size=(w, 48)) for w in (64, 400))
    path = tmp_path / f"grows.{suffix}"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    refusal = pytest.raises(InvalidVideo, match=rf"grows\.{suffix}: frames of 400x48 exceed .* \(video\.max_pixels\)")
    with refusal, open_video(path, VideoConfig(max_pixels=64 * 48)) as video:
        list(video.frames())


def test_a_file_without_a_valid_sample_has_no_frame(tmp_path: Path) -> None:
    path = damage(encode(tmp_path / "clip.mkv", "mjpeg", frames=4), 0, 1, 2, 3)
    with pytest.raises(InvalidVideo, match=r"clip\.mkv has no frame that can be decoded"):
        open_video(path, CONFIG)
