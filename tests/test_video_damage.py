from __future__ import annotations

import gc
import random
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.video import FrameClock, open_video

CONFIG = VideoConfig()
FRAMES = 30


def encode(
    path: Path, codec: str = "libx264", frames: int = FRAMES, size: tuple[int, int] = (64, 48), **options: str
) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(frames):
            image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def damage(path: Path, *samples: int) -> Path:
    """Overwrite samples of a file with noise."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for sample in samples:
        at, size = places[sample]
        data[at : at + size] = random.Random(sample).randbytes(size)
    path.write_bytes(data)
    return path


def count(path: Path) -> tuple[int, int]:
    """Return the numbers of frames and of damaged frames of a video."""
    with open_video(path, CONFIG) as video:
        return sum(1 for _ in video.frames()), video.frames_damaged


def test_a_video_that_ends_takes_no_frames_from_another_that_is_read_at_the_same_time(tmp_path: Path) -> None:
    path = damage(encode(tmp_path / "clip.mp4"), -2)
    with open_video(path, CONFIG) as video:
        frames = video.frames()
        first = list(islice(frames, 26))
        assert count(path) == (FRAMES - 1, 1)
        gc.collect()  # the packets of the other one
        assert len(first) + sum(1 for _ in frames) == FRAMES - 1
        assert video.frames_damaged == 1
