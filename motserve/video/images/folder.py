"""Reads a folder of images as a video, such as a MOTChallenge sequence."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from motserve.config import VideoConfig
from motserve.errors import InvalidData, InvalidVideo
from motserve.files.folders import visible_files
from motserve.types import Frame, Image
from motserve.video.base import VideoInfo, VideoSource
from motserve.video.images.image_header import IMAGE_SUFFIXES, image_size
from motserve.video.images.numbering import Numbering, number_frames
from motserve.video.images.seqinfo import image_folder, is_sequence, read_seqinfo

logger = logging.getLogger("motserve.video")


class ImageFolder(VideoSource):
    """A folder of images at a constant rate, all of one size.

    Args:
        path: The folder; `imDir` and `frameRate` of its `seqinfo.ini` and a subfolder `img1` are used.
        config: Limits, and the default rate.
        name: Name of the video in messages.
        by_number: Take frame numbers from the names of images; see `number_frames`.

    Raises:
        InvalidVideo: The folder has no images or too many, its first image cannot be read, or the rate is invalid.
    """

    def __init__(self, path: Path, config: VideoConfig, name: str, by_number: bool = True) -> None:
        self._config = config
        self._name = name
        self._files = list_images(path)
        if not self._files:
            suffixes = ", ".join(IMAGE_SUFFIXES)
            raise InvalidVideo(f"{name}: no images ({suffixes}) in {image_folder(path)}")
        if len(self._files) > config.max_frames:
            raise InvalidVideo(
                f"{name} has {len(self._files)} images, more than the limit of {config.max_frames} (video.max_frames)"
            )
        rate = folder_rate_hz(path, config)
        stems = [file.stem for file in self._files]
        numbering = (
            number_frames(stems, is_sequence(path), rate, config.max_frames)
            if by_number
            else Numbering(range(len(stems)), 0)
        )
        if numbering.missing:
            logger.warning(
                "%s: missing images: %s; the others keep their frame numbers and times", name, numbering.missing
            )
        if numbering.is_guess:
            logger.warning(
                "%s: the numbers in the names of its images do not seem to be frame numbers; "
                "the images are taken as successive frames at %g Hz",
                name,
                rate,
            )
        height, width = self._read(self._files[0]).shape[:2]
        duration = (numbering.indices[-1] + 1) / rate
        self._info = VideoInfo(width, height, rate, len(self._files), duration, "images")
        self._indices = numbering.indices
        self._rate = rate
        self._walked = False

    @property
    def info(self) -> VideoInfo:
        """Size, rate and length of the video."""
        return self._info

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Iterate over the frames, once; see `VideoSource.frames`."""
        if self._walked:
            raise RuntimeError(f"the frames of {self._name} can be read only once; open it again")
        self._walked = True
        return self._walk(start)

    def check_complete(self) -> None:
        """Do nothing: each image is checked when it is read."""

    def close(self) -> None:
        """Do nothing: no file is open between two frames."""

    def _walk(self, start: int) -> Iterator[Frame]:
        for index, file in islice(zip(self._indices, self._files, strict=True), start, None):
            image = self._read(file)
            height, width = image.shape[:2]
            if (width, height) != (self._info.width, self._info.height):
                raise InvalidVideo(
                    f"{self._name}: {file.name} is {width}x{height}, the first image is "
                    f"{self._info.width}x{self._info.height}; images of a sequence have one size"
                )
            yield Frame(index, index / self._rate, image)

    def _read(self, file: Path) -> Image:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise InvalidVideo(f"{self._name}: image {file.name} cannot be read: {error.strerror}") from error
        if not data:
            raise InvalidVideo(f"{self._name}: image {file.name} is empty")
        size = image_size(data)
        if size is None:
            raise InvalidVideo(f"{self._name}: {file.name} is not a complete JPEG or PNG image")
        if size[0] * size[1] > self._config.max_pixels:
            raise InvalidVideo(
                f"{self._name}: image {file.name} of {size[0]}x{size[1]} exceeds the limit of "
                f"{self._config.max_pixels} pixels (video.max_pixels)"
            )
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise InvalidVideo(f"{self._name}: image {file.name} cannot be decoded")
        return np.asarray(image, np.uint8)


def _natural(file: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)]


def folder_rate_hz(path: Path, config: VideoConfig) -> float:
    """Return the frame rate in Hz of a folder: that of its `seqinfo.ini`, or the configured one.

    Raises:
        InvalidVideo: The file is broken, or its rate is not a positive number.
    """
    try:
        info = read_seqinfo(path)
        return (info.rate_hz if info else None) or config.image_folder_rate_hz
    except InvalidData as error:
        raise InvalidVideo(str(error)) from error


def list_images(path: Path) -> list[Path]:
    """Return the images of a folder in natural order of their names, without hidden files.

    Args:
        path: The folder of images, or of a sequence with its images in a subfolder; see `image_folder`.

    Raises:
        InvalidVideo: The `seqinfo.ini` is malformed or names a missing folder, or an image exists as JPEG and as PNG
            and no `imExt` selects one.
    """
    try:
        images = sorted(visible_files(image_folder(path), IMAGE_SUFFIXES), key=_natural)
        info = read_seqinfo(path)
    except InvalidData as error:
        raise InvalidVideo(str(error)) from error
    first_of = {image.stem: image for image in reversed(images)}
    if len(first_of) == len(images):
        return images
    chosen = [image for image in images if info is not None and image.suffix.lower() == info.image_suffix]
    if chosen:
        return chosen
    second = next(image for image in images if image != first_of[image.stem])
    raise InvalidVideo(
        f"{path.name}: {first_of[second.stem].name} and {second.name} are the same image twice; remove the files of "
        "one kind, or select one with imExt in the seqinfo.ini"
    )
