"""Pictures read with OpenCV; one that cannot be read fails the test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from motserve.types import Image


def decode_picture(data: bytes) -> Image:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None, "not a picture"
    return np.asarray(pixels, np.uint8)


def read_picture(path: Path) -> Image:
    return decode_picture(path.read_bytes())
