"""Finds the sequences of a downloaded MOTChallenge benchmark and reports what each of them lacks."""

from __future__ import annotations

from collections.abc import Sequence
from configparser import ConfigParser
from configparser import Error as IniError
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from motserve.errors import InvalidData, NotFound
from motserve.lab.datasets.catalogue import MotContents
from motserve.lab.datasets.pictures import Picture, describe_contents, list_pictures, list_some, picture_size


@dataclass(frozen=True, slots=True)
class MotSequence:
    """A complete sequence.

    Attributes:
        name: Its name without the public detector.
        folder: Its folder.
        rate_hz: Frame rate in Hz, as text from `seqinfo.ini`.
        width: Of its pictures, in pixels.
        height: Of its pictures, in pixels.
        pictures: One for each frame, in order.
    """

    name: str
    folder: Path
    rate_hz: str
    width: int
    height: int
    pictures: tuple[Picture, ...]

    @property
    def ground_truth(self) -> Path:
        """The ground truth file."""
        return self.folder / "gt" / "gt.txt"

    @property
    def info(self) -> Path:
        """The file that describes the sequence."""
        return self.folder / "seqinfo.ini"


@dataclass(frozen=True, slots=True)
class _Info:
    rate_hz: str
    length: int
    width: int
    height: int


def find_root(source: Path, contents: MotContents) -> Path:
    """Return the folder that holds the folders of sequences: the source itself or its `train`.

    Raises:
        InvalidData: None of the sequences is there.
    """
    folders = [source / "train", source]
    counts = [sum(bool(_copies(folder, name, contents)) for name in contents.lengths) for folder in folders]
    if not any(counts):
        expected = [f"{name}{contents.copies[0]}" for name in contents.lengths]
        raise InvalidData(
            f"{source} is not {contents.title}: neither it nor its folder train has one of the training sequences "
            f"{', '.join(expected)}; {describe_contents(source)}"
        )
    return folders[counts.index(max(counts))]


def choose_sequences(contents: MotContents, selected: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the sequences to use, in the order of the catalogue.

    Args:
        contents: The data set.
        selected: Names, with or without the public detector; empty for all.

    Raises:
        NotFound: The data set has no sequence of such a name.
    """
    names = {f"{name}{copy}": name for name in contents.lengths for copy in (*contents.copies, "")}
    unknown = [name for name in selected if name not in names]
    if unknown:
        raise NotFound(
            f"{contents.title} has no training sequence {', '.join(unknown)}; it has {', '.join(contents.lengths)}"
        )
    chosen = {names[name] for name in selected or names}
    return tuple(name for name in contents.lengths if name in chosen)


def find_sequence(root: Path, name: str, contents: MotContents) -> tuple[MotSequence | None, list[str]]:
    """Find a complete copy of a sequence.

    Args:
        root: The folder that holds the folders of sequences.
        name: The sequence.
        contents: The data set.

    Returns:
        The first complete copy in order of preference; if there is none, None and what the most preferred copy lacks.
    """
    copies = _copies(root, name, contents)
    if not copies:
        others = ", and its other copies too" if len(contents.copies) > 1 else ""
        return None, [f"{name}: the folder {name}{contents.copies[0]} is missing{others}"]
    checked = (_check_copy(folder, name, contents.lengths[name]) for folder in copies)
    first: list[str] = []
    for sequence, complaints in checked:
        if sequence is not None:
            return sequence, []
        first = first or complaints
    return None, first


def _copies(root: Path, name: str, contents: MotContents) -> list[Path]:
    folders = (root / f"{name}{copy}" for copy in contents.copies)
    return [folder for folder in folders if folder.is_dir()]


def _check_copy(folder: Path, name: str, length: int) -> tuple[MotSequence | None, list[str]]:
    info, complaints = _read_info(folder / "seqinfo.ini", length)
    truth = folder / "gt" / "gt.txt"
    if not truth.is_file():
        complaints.append("gt/gt.txt is missing")
    elif not truth.stat().st_size:
        complaints.append("gt/gt.txt is empty")
    pictures, picture_complaints = _find_pictures(folder / "img1", length)
    complaints += picture_complaints
    if info is not None and pictures[0] is not None:
        size = picture_size(pictures[0])
        if size is None:
            complaints.append(f"{pictures[0].path.name} is not a complete JPEG or PNG image")
        elif size != (info.width, info.height):
            complaints.append(
                f"{pictures[0].path.name} is {size[0]}x{size[1]} where seqinfo.ini says {info.width}x{info.height}"
            )
    if info is None or complaints:
        return None, [f"{folder.name}: {complaint}" for complaint in complaints]
    complete = tuple(picture for picture in pictures if picture is not None)
    return MotSequence(name, folder, info.rate_hz, info.width, info.height, complete), []


def _find_pictures(folder: Path, length: int) -> tuple[list[Picture | None], list[str]]:
    """Return for each frame its picture or None, and a list of problems of the folder."""
    pictures: list[Picture | None] = [None] * length
    if not folder.is_dir():
        return pictures, [f"img1 with its {length} pictures is missing"]
    unexpected = []
    for picture in list_pictures(folder):
        stem = picture.path.stem
        frame = int(stem) if stem.isdecimal() else 0
        if not 1 <= frame <= length or pictures[frame - 1] is not None:
            unexpected.append(picture.path.name)
        elif picture.bytes:  # an interrupted download leaves empty files
            pictures[frame - 1] = picture
    complaints = []
    missing = [f"{frame:06d}" for frame, picture in enumerate(pictures, 1) if picture is None]
    if missing:
        complaints.append(f"img1 lacks {len(missing)} of {length} pictures: {list_some(missing)}")
    if unexpected:
        complaints.append(f"img1 holds {len(unexpected)} pictures besides its {length} frames: {list_some(unexpected)}")
    return pictures, complaints


def _read_info(path: Path, length: int) -> tuple[_Info | None, list[str]]:
    if not path.is_file():
        return None, ["seqinfo.ini is missing"]
    parser = ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        info = _Info(section["frameRate"], *(int(section[key]) for key in ("seqLength", "imWidth", "imHeight")))
        rate_hz = float(info.rate_hz)
    except (ValueError, KeyError, IniError) as error:
        reason = " ".join(str(error).splitlines())
        return None, [f"seqinfo.ini cannot be read: {type(error).__name__}: {reason}"]
    if not (isfinite(rate_hz) and rate_hz > 0 and info.width > 0 and info.height > 0):
        return None, ["seqinfo.ini has a frameRate, imWidth or imHeight that is not positive"]
    if info.length != length:
        return None, [f"seqinfo.ini says {info.length} frames where the sequence has {length}"]
    return info, []
