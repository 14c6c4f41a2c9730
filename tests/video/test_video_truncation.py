"""Detection of files that are cut off or whose index is wrong, in each container that permits it."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import av
import pytest
from noise_videos import FRAMES, count, encode

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.video import open_video

CONFIG = VideoConfig()


def count_of_cut_off(path: Path) -> int:
    """Return how many frames a video gives before it is refused as cut off."""
    frames: list[int] = []
    with open_video(path, CONFIG) as video, pytest.raises(InvalidVideo, match="cut off"):
        frames.extend(frame.index for frame in video.frames())
    return len(frames)


def fragmented(path: Path) -> Path:
    return encode(path, movflags="frag_keyframe+empty_moov", frag_duration="200000")


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_a_file_of_any_length_that_lacks_its_last_frames_is_cut_off(tmp_path: Path, suffix: str) -> None:
    """A few frames of a long file are less than the errors in headers of complete files."""
    path = encode(tmp_path / f"clip.{suffix}", "mpeg4", frames=300)
    with av.open(str(path)) as container:
        end = [packet.pos for packet in container.demux(video=0)][294]
    path.write_bytes(path.read_bytes()[: end + 100])
    assert 290 < count_of_cut_off(path) < 298


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "mpeg4"), ("avi", "mpeg4"), ("flv", "flv1")])
def test_a_file_whose_end_was_never_written_is_cut_off(tmp_path: Path, suffix: str, codec: str) -> None:
    path = encode(tmp_path / f"clip.{suffix}", codec, frames=60)
    data = path.read_bytes()
    kept_bytes = int(len(data) * 0.6)
    path.write_bytes(data[:kept_bytes] + bytes(len(data) - kept_bytes))
    assert 20 < count_of_cut_off(path) < 50


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mp4"])
def test_zeros_after_a_complete_file_are_ignored(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"clip.{suffix}", "mpeg4")
    path.write_bytes(path.read_bytes() + bytes(100_000))
    assert count(path) == (FRAMES, 0)


@pytest.mark.parametrize(("suffix", "codec"), [("ivf", "libvpx-vp9"), ("mxf", "mpeg2video")])
def test_other_containers_that_state_their_length(tmp_path: Path, suffix: str, codec: str) -> None:
    path = encode(tmp_path / f"clip.{suffix}", codec)
    assert count(path) == (FRAMES, 0)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    assert 0 < count_of_cut_off(path) < FRAMES


def test_a_header_with_too_many_frames_is_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "clip.ivf", "libvpx-vp9")
    data = bytearray(path.read_bytes())
    data[24:28] = (900).to_bytes(4, "little")
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert count(path) == (FRAMES, 0)
    assert "its header is wrong" in caplog.text


@pytest.mark.parametrize("box", [b"moof", b"mdat"])
def test_a_recording_that_ends_inside_a_fragment_is_cut_off(tmp_path: Path, box: bytes) -> None:
    path = fragmented(tmp_path / "clip.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(box) + 20])
    assert 0 < count_of_cut_off(path) < FRAMES


def test_a_recording_that_ends_between_fragments_is_read(tmp_path: Path) -> None:
    path = fragmented(tmp_path / "clip.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moof") - 4])
    assert 0 < count(path)[0] < FRAMES


def test_samples_that_an_avi_lists_but_does_not_contain_are_damage(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.avi", "mjpeg", frames=60)
    data = bytearray(path.read_bytes())
    chunk = [at for at in range(len(data)) if data[at : at + 4] == b"00dc"][20]
    data[chunk : chunk + 8] = bytes(8)
    path.write_bytes(data)
    frames, damaged = count(path)
    assert (frames + damaged, damaged > 0) == (60, True)


def test_an_index_that_points_outside_is_not_followed(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.avi", "mpeg4")
    data = bytearray(path.read_bytes())
    index, rng = data.rindex(b"idx1"), random.Random(0)
    for entry in range(index + 8, index + 8 + FRAMES * 16, 16):
        data[entry + 8 : entry + 12] = rng.randrange(len(data)).to_bytes(4, "little")
    path.write_bytes(data)
    assert count(path) == (FRAMES, 0)


def test_an_unfinished_avi_has_an_unknown_number_of_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.avi", "mpeg4")
    data = bytearray(path.read_bytes())
    data = data[: data.rindex(b"idx1")]
    for at in (4, data.index(b"movi") - 4, data.index(b"avih") + 24, data.index(b"strh") + 40):
        data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    with open_video(path, CONFIG) as video:
        assert video.info.frame_count is None
        assert sum(1 for _ in video.frames()) == FRAMES
