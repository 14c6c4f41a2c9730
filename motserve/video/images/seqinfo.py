"""Reads `seqinfo.ini`: folder, rate, number and size of the images of a MOTChallenge sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from configparser import ConfigParser
from configparser import Error as IniError
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final, TypeVar

from motserve.errors import InvalidData
from motserve.files.folders import visible_files
from motserve.video.images.image_header import IMAGE_SUFFIXES

SEQINFO: Final = "seqinfo.ini"
IMAGE_DIR: Final = "img1"
"""Default folder of the images of a sequence."""

MIN_RATE_HZ: Final = 1e-6
"""Lowest valid frame rate: one image in twelve days."""

MAX_RATE_HZ: Final = 10_000.0
"""Highest valid frame rate: results are in microseconds, and annotated video in ticks of 1/90000 s."""

_SECTION: Final = "sequence"
_MAX_BYTES: Final = 1 << 20
_MAX_NAME: Final = 255  # characters of a path below the sequence
_MAX_DIGITS: Final = 9  # of the width and height of an image
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """Contents of a `seqinfo.ini`. Each value is checked on access, because readers need only some of them.

    Attributes:
        path: The file.
        values: Values that are not empty, by their keys in lower case.
    """

    path: Path
    values: Mapping[str, str]

    @property
    def image_dir(self) -> str | None:
        """Folder of the images, relative to that of the file; None if the file does not give it.

        Raises:
            InvalidData: It is not the name of a folder inside that of the file.
        """
        name = self.values.get("imdir")
        if name is None:
            return None
        is_absolute = name.startswith("/") or bool(PureWindowsPath(name).anchor)
        if is_absolute or ".." in PurePosixPath(name).parts or "\0" in name or len(name) > _MAX_NAME:
            raise InvalidData(
                f"{self.path}: imDir must be a folder inside that of the file, such as {IMAGE_DIR}, got "
                f"{name[:_MAX_NAME]!r}"
            )
        return name

    @property
    def image_suffix(self) -> str | None:
        """Suffix of the images in lower case, with its dot; None if the file does not give it."""
        suffix = self.values.get("imext")
        return None if suffix is None else f".{suffix.lower().removeprefix('.')}"

    @property
    def rate_hz(self) -> float | None:
        """Frame rate in Hz; None if the file does not give it.

        Raises:
            InvalidData: It is not a number from `MIN_RATE_HZ` to `MAX_RATE_HZ`.
        """
        rate = self._number("frameRate", float)
        if rate is not None and not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise InvalidData(f"{self.path}: frameRate must be from {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}, got {rate:g}")
        return rate

    @property
    def length(self) -> int | None:
        """Number of frames; None if the file does not give it.

        Raises:
            InvalidData: It is not a whole number.
        """
        return self._number("seqLength", int)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of an image in pixels; None unless the file gives both as positive whole numbers."""
        sides = (self.values.get(key, "") for key in ("imwidth", "imheight"))
        width, height = (int(side) if side.isdecimal() and len(side) <= _MAX_DIGITS else 0 for side in sides)
        return (width, height) if width and height else None

    def _number(self, key: str, kind: Callable[[str], _Number]) -> _Number | None:
        text = self.values.get(key.lower(), "")
        try:
            return kind(text) if text else None
        except ValueError as error:
            what = "a whole number" if kind is int else "a number"
            raise InvalidData(f"{self.path}: {key} must be {what}, got {text[:_MAX_NAME]!r}") from error


def read_seqinfo(folder: Path) -> SequenceInfo | None:
    """Read the `seqinfo.ini` of a sequence; None if there is none.

    Args:
        folder: Folder of the sequence.

    Raises:
        InvalidData: It is not an INI file, or has other sections than `[Sequence]`.
    """
    path = folder / SEQINFO
    if not path.is_file():
        return None
    # no interpolation: values may contain `%`
    parser = ConfigParser(interpolation=None)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        # surrogates keep folder names that are not UTF-8
        parser.read_string(data.decode("utf-8-sig", "surrogateescape"), SEQINFO)
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error
    except IniError as error:
        raise InvalidData(f"{path} is not a valid seqinfo.ini: {' '.join(str(error).split())}") from error
    names = parser.sections()
    section = next((name for name in names if name.strip().lower() == _SECTION), None)
    if section is None:
        if names:
            raise InvalidData(f"{path} is not a valid seqinfo.ini: it has no section [Sequence], but {names[:3]}")
        return SequenceInfo(path, {})
    return SequenceInfo(path, {key: value.strip() for key, value in parser[section].items() if value.strip()})


def image_folder(folder: Path) -> Path:
    """Return the folder of the images of a sequence: `imDir` of its `seqinfo.ini`, `img1`, or the folder itself.

    Raises:
        InvalidData: The `seqinfo.ini` is malformed, or names a missing folder and the folder itself has no images.
    """
    info = read_seqinfo(folder)
    named = info.image_dir if info else None
    images = folder / (named or IMAGE_DIR)
    if images.is_dir():
        return images
    if named and not visible_files(folder, IMAGE_SUFFIXES):
        raise InvalidData(f"{folder / SEQINFO}: the folder of the images, imDir={named!r}, is missing")
    return folder


def is_sequence(folder: Path) -> bool:
    """Return whether a folder is a MOTChallenge sequence, whose frames count from 1, or its folder of images."""
    return (folder / SEQINFO).is_file() or (folder / IMAGE_DIR).is_dir() or folder.absolute().name == IMAGE_DIR
