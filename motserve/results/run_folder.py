"""The output folder of one run of `motserve track`, which never mixes results of two runs.

A run writes to a hidden staging folder inside. When all results are complete, they replace those of an earlier run in
one step, so that tracks and annotated video always belong to the same video.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from motserve.errors import Conflict, DiskFull, InvalidConfig, MotserveError
from motserve.files.disk import is_full
from motserve.files.folders import VIDEO_SUFFIXES, named
from motserve.files.names import encodable
from motserve.results.formats import SUFFIXES

TRACKS: Final = "tracks"
"""Name of the tracks without the suffix of their format."""

ANNOTATED: Final = "annotated.mp4"
"""Name of the annotated video."""

RUN_FILES: Final = (*(f"{TRACKS}{suffix}" for suffix in SUFFIXES.values()), f"{TRACKS}.provenance.json", ANNOTATED)
"""All files that a run may write."""

_LONGEST_NAME: Final = 255  # bytes, on all file systems of Linux
_STAGING: Final = ".run-"
_STAGING_SUFFIX: Final = "[0-9a-f]" * 8
_NUMBERED: Final = re.compile(r"(.+)-([1-9]\d*)", re.DOTALL)


def run_name(video: Path) -> str:
    """Return the folder name of a run: the name of the video without its suffix.

    Only suffixes of video files are removed: `cam.v1` and `cam.v2` are two videos.

    Args:
        video: The video as given; a link keeps its own name.
    """
    path = named(video)
    is_file = path.suffix.lower() in VIDEO_SUFFIXES and not video.is_dir()
    return (path.stem if is_file else path.name) or "root"


def is_numbered_run(folder: str, video: str) -> bool:
    """Return whether a folder belongs to a second or later run of a video, such as `clip-2` of `clip.mp4`.

    Args:
        folder: Name of the folder.
        video: Name of the video in the provenance of its tracks.
    """
    match = _NUMBERED.fullmatch(encodable(folder))
    return match is not None and match[1] in (video, Path(video).stem)


def runs_of(parent: Path, name: str) -> list[Path]:
    """Return the folders of the runs of a name, the latest first: `name-2`, `name`.

    Args:
        parent: Parent folder of runs.
        name: Name of the run; see `run_name`.
    """
    if not parent.is_dir():
        return []
    folders = {path.name: path for path in parent.iterdir() if path.is_dir()}
    numbers = {1: _fitting(name, "")} | {
        int(match[2]): folder
        for folder in folders
        if (match := _NUMBERED.fullmatch(folder)) and folder == _fitting(name, f"-{match[2]}")
    }
    return [folders[numbers[number]] for number in sorted(numbers, reverse=True) if numbers[number] in folders]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The output folder of a run.

    Attributes:
        path: Folder of the results.
        staging: Folder that they are written to; it is removed with the run.
    """

    path: Path
    staging: Path

    def publish(self) -> None:
        """Replace the files of an earlier run by those in the staging folder; other files are not touched."""
        made = [name for name in RUN_FILES if (self.staging / name).exists()]
        for name in RUN_FILES:
            (self.path / name).unlink(missing_ok=True)
        for name in made:
            (self.staging / name).replace(self.path / name)


@contextmanager
def open_run_folder(output: Path | None, parent: Path, name: str, overwrite: bool) -> Iterator[RunFolder]:
    """Claim a folder for a run. Unpublished files are removed at the end, and the folder too if it is empty.

    Args:
        output: The requested folder; None for a new one in `parent`: `name`, `name-2`, …
        parent: Parent folder of runs without `output`.
        name: Name of the run; see `run_name`.
        overwrite: Whether files of an earlier run in `output` may be replaced.

    Raises:
        InvalidConfig: The folder cannot be created or written to, or holds files of an earlier run.
        Conflict: Another run is writing to it.
    """
    made: list[Path] = []
    try:
        if output is None:
            path = _numbered(parent, name, made)
        else:
            path = output
            _check(path, overwrite)
            _make(path, made)
        with _alone(path) as is_locked:
            if output is not None:
                _check(path, overwrite)  # again: another run may have been faster
            if is_locked:
                for left in path.glob(_STAGING + _STAGING_SUFFIX):  # of a run that was killed
                    shutil.rmtree(left, ignore_errors=True)
            staging = path / f"{_STAGING}{secrets.token_hex(4)}"
            try:
                staging.mkdir()
            except OSError as error:
                raise _refusal(path, "written to", error) from error
            try:
                yield RunFolder(path, staging)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # folders that are not empty stay
                folder.rmdir()


def _numbered(parent: Path, name: str, made: list[Path]) -> Path:
    """Create the first numbered folder that does not exist; two runs at once get two folders."""
    _make(parent, made)
    for number in count(1):
        path = parent / _fitting(name, "" if number == 1 else f"-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _refusal(path, "made", error) from error
        made.append(path)
        return path
    raise AssertionError("the numbers never end")


def _fitting(name: str, ending: str) -> str:
    """Return a name with its ending, shortened to the longest allowed name."""
    data, room = os.fsencode(name), _LONGEST_NAME - len(ending)
    if len(data) > room:
        while room and data[room] & 0xC0 == 0x80:  # do not cut a UTF-8 character
            room -= 1
    return os.fsdecode(data[:room]) + ending


def _make(path: Path, made: list[Path]) -> None:
    """Create a folder and its missing parents, and append them to `made`."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
    except FileExistsError as error:
        if not path.is_dir():
            raise InvalidConfig(f"{path} cannot be made: {error.filename} is not a folder") from error
    except OSError as error:
        raise _refusal(path, "made", error) from error
    if not path.is_dir():
        raise InvalidConfig(f"{path} cannot be made: a file of that name exists")


def _refusal(path: Path, what: str, error: OSError) -> MotserveError:
    kind = DiskFull if is_full(error) else InvalidConfig
    return kind(f"{path} cannot be {what}: {error.strerror}")


def _check(path: Path, overwrite: bool) -> None:
    """Refuse a folder whose files must not be replaced: those of an earlier run, or others with the same names."""
    existing = [name for name in RUN_FILES if os.path.lexists(path / name)]
    odd = [name for name in existing if not (path / name).is_file() and not (path / name).is_symlink()]
    if odd:
        raise InvalidConfig(f"{path / odd[0]} is in the way: it is not a regular file; choose another --output")
    if existing and not overwrite:
        raise InvalidConfig(
            f"{path} holds {' and '.join(existing)} of an earlier run; --overwrite replaces them, or choose "
            "another --output"
        )


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a lock on a folder, which the system releases when this process ends, however it ends.

    Yields:
        Whether there is a lock: some network file systems lock no folders.

    Raises:
        Conflict: Another run holds it.
        InvalidConfig: The folder cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be used: {error.strerror}") from error
    is_locked = False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise Conflict(f"another run is writing to {path}; wait for it or choose another --output") from error
        yield is_locked
    finally:
        os.close(descriptor)
