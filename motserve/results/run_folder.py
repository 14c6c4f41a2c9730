"""The folder of one run of `motserve track`: its own from the beginning, filled at the end, never with an older run.

What a run makes is first put into a hidden folder inside. It takes its place when all of it is there, and what an
earlier run has left goes in the same step; so tracks and pictures of two videos never lie side by side.
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

from motserve.disk import is_full
from motserve.errors import Conflict, DiskFull, InvalidConfig, MotserveError
from motserve.results.formats import SUFFIXES
from motserve.text import encodable

TRACKS: Final = "tracks"
"""Name of the tracks, before the suffix of their format."""

ANNOTATED: Final = "annotated.mp4"
"""Name of the annotated video."""

RUN_FILES: Final = (*(f"{TRACKS}{suffix}" for suffix in SUFFIXES.values()), f"{TRACKS}.provenance.json", ANNOTATED)
"""Everything that a run may leave."""

# fmt: off
_VIDEO_SUFFIXES: Final = frozenset({
    ".3gp", ".asf", ".avi", ".dv", ".flv", ".gif", ".h264", ".hevc", ".ivf", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
_STAGING: Final = ".run-"
_LONGEST_NAME: Final = 255  # bytes, on all file systems of Linux
_NUMBERED: Final = re.compile(r"(.+)-([1-9]\d*)", re.DOTALL)


def run_name(video: Path) -> str:
    """Return what the folder of a video's run is called: the name of a folder, of a file without its suffix.

    Only the suffixes of videos are taken away: `cam.v1` and `cam.v2` are two videos.

    Args:
        video: The video, as it was given. A link has its own name.
    """
    named = video if video.name not in ("", "..") else video.resolve()
    is_file = named.suffix.lower() in _VIDEO_SUFFIXES and not video.is_dir()
    return (named.stem if is_file else named.name) or "root"


def is_numbered_run(folder: str, video: str) -> bool:
    """Tell whether a folder is that of a second or later run of a video: `clip-2` of `clip.mp4`.

    Args:
        folder: Name of the folder.
        video: Name of the video, as the stamp on its tracks says it.
    """
    match = _NUMBERED.fullmatch(encodable(folder))
    return match is not None and match[1] in (video, Path(video).stem)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The output folder of a run.

    Attributes:
        path: Where the results will be.
        staging: Where they are made; it goes with the run.
    """

    path: Path
    staging: Path

    def publish(self) -> None:
        """Put what is in the staging folder in place of what an earlier run has left there; nothing else is touched."""
        made = [name for name in RUN_FILES if (self.staging / name).exists()]
        for name in RUN_FILES:
            (self.path / name).unlink(missing_ok=True)
        for name in made:
            (self.staging / name).replace(self.path / name)


@contextmanager
def open_run_folder(output: Path | None, parent: Path, name: str, overwrite: bool) -> Iterator[RunFolder]:
    """Claim a folder for a run; what the run does not publish is gone in the end, and the folder with it if empty.

    Args:
        output: The folder that was asked for; None for one of its own in `parent`: `name`, `name-2`, …
        parent: Folder of the runs that were given none.
        name: What the run is called; see `run_name`.
        overwrite: Whether files of an earlier run in `output` may be replaced.

    Raises:
        InvalidConfig: The folder cannot be made or written to, or holds files of an earlier run.
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
        with _alone(path):
            if output is not None:
                _check(path, overwrite)  # again: another run may have been faster
            for killed in path.glob(f"{_STAGING}{'[0-9a-f]' * 8}"):  # of a run that is no more, for it had the lock
                shutil.rmtree(killed, ignore_errors=True)
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
            with suppress(OSError):  # one that holds something stays
                folder.rmdir()


def _numbered(parent: Path, name: str, made: list[Path]) -> Path:
    """Make the first folder of a name and a number that is not there yet; two runs at once get two."""
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
    raise AssertionError("there is always another number")


def _fitting(name: str, ending: str) -> str:
    """Return a name with its ending, cut where it would be longer than a name may be."""
    data, room = os.fsencode(name), _LONGEST_NAME - len(ending)
    if len(data) > room:
        while room and data[room] & 0xC0 == 0x80:  # not within a character of UTF-8
            room -= 1
    return os.fsdecode(data[:room]) + ending


def _make(path: Path, made: list[Path]) -> None:
    """Make a folder and those above it that are missing, and note which."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
    except FileExistsError as error:
        if not path.is_dir():
            raise InvalidConfig(f"{path} cannot be made: {error.filename} is no folder") from error
    except OSError as error:
        raise _refusal(path, "made", error) from error
    if not path.is_dir():
        raise InvalidConfig(f"{path} cannot be made: a file of that name is there")


def _refusal(path: Path, what: str, error: OSError) -> MotserveError:
    kind = DiskFull if is_full(error) else InvalidConfig
    return kind(f"{path} cannot be {what}: {error.strerror}")


def _check(path: Path, overwrite: bool) -> None:
    """Refuse a folder with files of an earlier run that must not be replaced, or with others under their names."""
    there = [name for name in RUN_FILES if os.path.lexists(path / name)]
    odd = [name for name in there if not (path / name).is_file() and not (path / name).is_symlink()]
    if odd:
        raise InvalidConfig(f"{path / odd[0]} is in the way: it is no regular file; choose another --output")
    if there and not overwrite:
        raise InvalidConfig(
            f"{path} holds {' and '.join(there)} of an earlier run; --overwrite replaces what that run has left, or "
            "choose another --output"
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock on a folder, which the system gives back whatever becomes of this process.

    Raises:
        Conflict: Another run has it.
        InvalidConfig: The folder cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise Conflict(f"another run is writing to {path}; wait for it or choose another --output") from error
            # some network file systems lock no folders
        yield
    finally:
        os.close(descriptor)
