"""Reads `seqinfo.ini`, which says where the pictures of a MOTChallenge sequence lie, their rate, number and size."""

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
"""Where the pictures of a sequence lie if its `seqinfo.ini` does not say."""

MIN_RATE_HZ: Final = 1e-6
"""One picture in twelve days; the times of a longer wait are no numbers to track by."""

MAX_RATE_HZ: Final = 10_000.0
"""Times of frames are written to the microsecond, and annotated video counts in parts of 1/90000 s."""

_SECTION: Final = "sequence"
_MAX_BYTES: Final = 1 << 20
_MAX_NAME: Final = 255  # characters of a path below the sequence
_MAX_DIGITS: Final = 9  # of the width and height of a picture
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What a `seqinfo.ini` says. Each value is checked when it is asked for: a reader needs only some to be right.

    Attributes:
        path: The file.
        values: Its values by their keys in lower case; without those that are empty.
    """

    path: Path
    values: Mapping[str, str]

    @property
    def image_dir(self) -> str | None:
        """Folder of the pictures, relative to that of the file; None where the file does not say.

        Raises:
            InvalidData: It is no name of a folder inside that of the file.
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
        """Suffix of the pictures in lower case, its dot included; None where the file does not say."""
        suffix = self.values.get("imext")
        return None if suffix is None else f".{suffix.lower().removeprefix('.')}"

    @property
    def rate_hz(self) -> float | None:
        """Frame rate in Hz; None where the file does not say.

        Raises:
            InvalidData: It is no number from `MIN_RATE_HZ` to `MAX_RATE_HZ`.
        """
        rate = self._number("frameRate", float)
        if rate is not None and not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise InvalidData(f"{self.path}: frameRate must be from {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}, got {rate:g}")
        return rate

    @property
    def length(self) -> int | None:
        """Number of frames; None where the file does not say.

        Raises:
            InvalidData: It is no whole number.
        """
        return self._number("seqLength", int)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of a picture in pixels; None unless both are positive whole numbers: not every file says."""
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
    """Read the `seqinfo.ini` of a sequence; None where there is none.

    Args:
        folder: Folder of the sequence.

    Raises:
        InvalidData: It is no INI file, or has no section `[Sequence]` but others.
    """
    path = folder / SEQINFO
    if not path.is_file():
        return None
    # a `%` in a value is a `%`
    parser = ConfigParser(interpolation=None)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        # a name that is not UTF-8 stays that of the folder
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
    """Return where the pictures of a folder lie: in the `imDir` of its `seqinfo.ini`, in `img1`, or in itself.

    Raises:
        InvalidData: The `seqinfo.ini` is malformed, or names a folder that is missing and there are no pictures here.
    """
    info = read_seqinfo(folder)
    named = info.image_dir if info else None
    images = folder / (named or IMAGE_DIR)
    if images.is_dir():
        return images
    if named and not visible_files(folder, IMAGE_SUFFIXES):
        raise InvalidData(f"{folder / SEQINFO}: the folder of the pictures, imDir={named!r}, is missing")
    return folder


def is_sequence(folder: Path) -> bool:
    """Tell whether a folder is a sequence of MOTChallenge, whose frames count from 1, or its folder of pictures."""
    return (folder / SEQINFO).is_file() or (folder / IMAGE_DIR).is_dir() or folder.absolute().name == IMAGE_DIR
