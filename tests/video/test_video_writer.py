from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from motserve.config import VideoConfig
from motserve.video import VideoWriter, open_video

CONFIG = VideoConfig(crf=4, preset="ultrafast")


def picture(width: int, height: int, shade: int) -> np.ndarray:
    image = np.full((height, width, 3), shade, np.uint8)
    image[:, : width // 2] = (200, 60, shade)
    return image


def test_round_trip_keeps_pictures_and_variable_timestamps(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.51, 1.7]
    with VideoWriter(tmp_path / "out.mp4", 64, 48, CONFIG, 25) as writer:
        for i, time in enumerate(times):
            writer.write(picture(64, 48, 30 * i), time)
    with open_video(tmp_path / "out.mp4", CONFIG) as video:
        frames = list(video.frames())
        assert video.info.frame_count == len(times)
        assert video.info.duration_s == pytest.approx(1.7 + 1 / 25, abs=1e-3)
    assert [f.timestamp for f in frames] == pytest.approx(times, abs=1e-5)
    for i, frame in enumerate(frames):
        # Not at the edge between the halves, where 4:2:0 mixes the colours.
        error = np.abs(frame.image.astype(int) - picture(64, 48, 30 * i))
        assert np.delete(error, slice(28, 36), axis=1).max() <= 8


def test_the_file_is_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 64, 48, CONFIG) as writer:
        for i in range(5):
            writer.write(picture(64, 48, i), i / 30)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert container.format.name.startswith("mov,mp4")
        assert (stream.codec_context.name, stream.pix_fmt, stream.codec_context.colorspace) == ("h264", "yuv420p", 1)
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert list(tmp_path.iterdir()) == [path]


def test_odd_sizes_grow_by_a_row_and_a_column(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "odd.mp4", 65, 49, CONFIG) as writer:
        writer.write(picture(65, 49, 120), 0.0)
    with open_video(tmp_path / "odd.mp4", CONFIG) as video:
        image = next(video.frames()).image
    assert image.shape == (50, 66, 3)
    assert np.abs(image[:49, 40:65].astype(int) - 120).max() <= 8
    assert np.abs(image[49, 40:].astype(int) - 120).max() <= 8


def test_a_failure_leaves_nothing_and_keeps_the_previous_video(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"the old one")

    def write_two_sizes() -> None:
        with VideoWriter(target, 64, 48, CONFIG) as writer:
            writer.write(picture(64, 48, 1), 0.0)
            writer.write(picture(32, 48, 1), 0.1)

    with pytest.raises(ValueError, match="the frame 32x48"):
        write_two_sizes()
    assert target.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [target]


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frame was written"), VideoWriter(tmp_path / "out.mp4", 64, 48, CONFIG):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 64, 48, CONFIG) as writer:
        writer.write(picture(64, 48, 1), 0.5)
        with pytest.raises(ValueError, match="64x48, the frame 32x48"):
            writer.write(picture(32, 48, 1), 0.6)
        with pytest.raises(ValueError, match="must increase"):
            writer.write(picture(64, 48, 1), 0.5)
        with pytest.raises(ValueError, match="must increase"):
            writer.write(picture(64, 48, 1), 0.4)
        with pytest.raises(ValueError, match="from zero on"):
            writer.write(picture(64, 48, 1), float("nan"))


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        VideoWriter(tmp_path / "nowhere" / "out.mp4", 64, 48, CONFIG)


def written(
    path: Path, times: list[float], rate_hz: float | None, pixel_aspect: float = 1.0
) -> tuple[list[float], float]:
    """Write frames; return the times that are read back, and the length of the whole file."""
    with VideoWriter(path, 64, 48, CONFIG, rate_hz, pixel_aspect) as writer:
        for i, time in enumerate(times):
            writer.write(picture(64, 48, i), time)
    with open_video(path, CONFIG) as video:
        assert video.info.pixel_aspect == pytest.approx(pixel_aspect)
        assert video.info.duration_s is not None
        return [frame.timestamp for frame in video.frames()], video.info.duration_s


@pytest.mark.parametrize("interval_s", [2400.0, 14 * 3600.0, 30 * 86400.0])
def test_slow_time_lapse(tmp_path: Path, interval_s: float) -> None:
    times, length = written(tmp_path / "lapse.mp4", [0, interval_s, 2 * interval_s], 1 / interval_s)
    assert times == pytest.approx([0, interval_s, 2 * interval_s])
    assert length == pytest.approx(3 * interval_s)


def test_a_frame_that_lasts_longer_than_mp4_allows_is_repeated(tmp_path: Path) -> None:
    times, length = written(tmp_path / "gap.mp4", [0, 0.04, 50_000, 50_000.04], 25)
    assert [times[0], times[1], *times[-2:]] == pytest.approx([0, 0.04, 50_000, 50_000.04], abs=1e-4)
    assert len(times) == 8
    assert length == pytest.approx(50_000.08, abs=1e-3)


def test_a_very_long_gap_is_limited(tmp_path: Path) -> None:
    assert len(written(tmp_path / "gap.mp4", [0, 9e9], 25)[0]) == 102


def test_frames_closer_than_a_tick_go_to_the_next_free_one(tmp_path: Path) -> None:
    times, _ = written(tmp_path / "near.mp4", [0, 0.04, 0.040003, 0.040004, 0.08], 25)
    tick = 1 / 90_000
    assert times == pytest.approx([0, 0.04, 0.04 + tick, 0.04 + 2 * tick, 0.08], abs=tick / 10)


@pytest.mark.parametrize("pixel_aspect", [2.0, 0.5, 40 / 33, 16 / 11])
def test_the_pixel_aspect_is_kept(tmp_path: Path, pixel_aspect: float) -> None:
    written(tmp_path / "wide.mp4", [0.0], 25, pixel_aspect)
