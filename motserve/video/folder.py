"""Reads a folder of images as a video, such as a MOTChallenge sequence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as IniError
from math import isfinite
from pathlib import Path

import cv2
import numpy as np

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.types import Frame, Image
from motserve.video.base import VideoInfo, VideoSource

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of JPEG, which carry the size; C4, C8 and CC are other things.
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageFolder(VideoSource):
    """A folder of images at a constant rate, all of one size.

    Args:
        path: The folder; its `img1` is used where it has one, and the `frameRate` of its `seqinfo.ini`.
        config: Limits and the rate to assume otherwise.
        name: What messages call it.

    Raises:
        InvalidVideo: The folder has no images, too many, or a first one that cannot be read; the rate is not valid.
    """

    def __init__(self, path: Path, config: VideoConfig, name: str) -> None:
        self._config = config
        self._name = name
        images = path / "img1" if (path / "img1").is_dir() else path
        self._files = sorted(
            (file for file in images.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()), key=_natural
        )
        if not self._files:
            raise InvalidVideo(f"{name}: no images ({', '.join(sorted(SUFFIXES))}) in {images}")
        if len(self._files) > config.max_frames:
            raise InvalidVideo(
                f"{name} has {len(self._files)} images, more than the limit of {config.max_frames} (video.max_frames)"
            )
        rate = folder_rate_hz(path, config)
        height, width = self._read(self._files[0]).shape[:2]
        self._info = VideoInfo(width, height, rate, len(self._files), len(self._files) / rate, "images")
        self._rate = rate
        self._walked = False

    @property
    def info(self) -> VideoInfo:
        """Size, rate and length of the video."""
        return self._info

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Walk through the frames, once; see `VideoSource.frames`."""
        if self._walked:
            raise RuntimeError(f"the frames of {self._name} can be walked through once; open it again")
        self._walked = True
        return self._walk(start)

    def check_complete(self) -> None:
        """Do nothing: each image shows by itself whether it is whole, when it is read."""

    def close(self) -> None:
        """Do nothing: no file stays open between two frames."""

    def _walk(self, start: int) -> Iterator[Frame]:
        for index in range(start, len(self._files)):
            image = self._read(self._files[index])
            height, width = image.shape[:2]
            if (width, height) != (self._info.width, self._info.height):
                raise InvalidVideo(
                    f"{self._name}: {self._files[index].name} is {width}x{height}, the first image is "
                    f"{self._info.width}x{self._info.height}; images of a sequence have one size"
                )
            yield Frame(index, index / self._rate, image)

    def _read(self, file: Path) -> Image:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise InvalidVideo(f"{self._name}: image {file.name} cannot be read: {error.strerror}") from error
        size = image_size(data)
        if size is None:
            raise InvalidVideo(f"{self._name}: {file.name} is no complete JPEG or PNG image")
        if size[0] * size[1] > self._config.max_pixels:
            raise InvalidVideo(
                f"{self._name}: image {file.name} of {size[0]}x{size[1]} exceeds the limit of "
                f"{self._config.max_pixels} pixels (video.max_pixels)"
            )
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise InvalidVideo(f"{self._name}: image {file.name} cannot be decoded")
        return np.asarray(image, np.uint8)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Read width and height from the header of a whole JPEG or PNG file, before anything is decoded.

    OpenCV has no way to ask, and decodes cut-off images to partly grey ones without a word.

    Returns:
        Width and height in pixels; None if the data is neither or its end is missing.
    """
    if data.startswith(_PNG):
        whole = len(data) >= 33 and b"IEND" in data[-64:]
        return (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) if whole else None
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_SIZE_MARKERS:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return (width, height) if data.rfind(b"\xff\xd9") > at else None
        # A marker may be preceded by any number of fill bytes.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _natural(file: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)]


def folder_rate_hz(path: Path, config: VideoConfig) -> float:
    """Return the frame rate in Hz of a folder: that of its `seqinfo.ini`, or the configured one.

    Raises:
        InvalidVideo: The file is broken, or its rate no positive number.
    """
    ini = path / "seqinfo.ini"
    if not ini.is_file():
        return config.image_folder_rate_hz
    parser = ConfigParser()
    try:
        parser.read_string(ini.read_text(encoding="utf-8-sig"))
        rate = parser.getfloat("Sequence", "frameRate", fallback=config.image_folder_rate_hz)
    except (OSError, ValueError, IniError) as error:
        raise InvalidVideo(f"{ini} is not a valid seqinfo.ini: {error}") from error
    if not (isfinite(rate) and rate > 0):
        raise InvalidVideo(f"{ini}: frameRate must be a positive number, got {rate}")
    return rate
