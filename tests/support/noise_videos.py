"""Small videos of noise, complete and with damaged samples."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from motserve.config import VideoConfig
from motserve.video import open_video

CONFIG = VideoConfig()
FRAMES = 30


def encode(
    path: Path, codec: str = "libx264", frames: int = FRAMES, size: tuple[int, int] = (64, 48), **options: str
) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(frames):
            image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def overwrite(path: Path, samples: Iterable[int], content: Callable[[int, int], bytes]) -> Path:
    """Overwrite samples of a file; `content` gets the number of a sample and its size in bytes."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for sample in samples:
        start, size = places[sample]
        assert start is not None
        data[start : start + size] = content(sample, size)
    path.write_bytes(data)
    return path


def damage(path: Path, *samples: int) -> Path:
    """Overwrite samples of a file with noise."""
    return overwrite(path, samples, lambda sample, size: random.Random(sample).randbytes(size))


def invalidate(path: Path, samples: Iterable[int]) -> Path:
    """Overwrite samples of a file with bytes that no H.264 decoder accepts."""
    return overwrite(path, samples, lambda _, size: b"\xff" * size)


def count(path: Path) -> tuple[int, int]:
    """Return the numbers of frames and of damaged frames of a video."""
    with open_video(path, CONFIG) as video:
        return sum(1 for _ in video.frames()), video.frames_damaged
