"""Output folder of a data set: writes files, links pictures, and records both for the manifest.

It is built beside its final path and moved there at the end, so that no incomplete data set is ever visible.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from motserve.choices import Links as Links
from motserve.errors import InvalidData
from motserve.lab.datasets.manifest import Entry, is_prepared
from motserve.lab.datasets.pictures import Picture
from motserve.models.checksums import checksum

_WAYS: dict[Links, Callable[[Path, Path], object]] = {
    "symlink": lambda picture, link: link.symlink_to(picture),
    # a hard link must point to the file itself, not to a symbolic link
    "hardlink": lambda picture, link: os.link(os.path.realpath(picture), link),
    "copy": shutil.copyfile,
}

Step: TypeAlias = Callable[[], None]


class Output:
    """Writes a data set into a folder and records each file written and read.

    Args:
        folder: Temporary folder to write to.
        target: Final path of the folder.
        root: Source folder; recorded names are relative to it.
        links: Whether pictures are linked or copied.
        checksum_pictures: Whether to read every picture for its checksum.
        step: Called after every picture.

    Attributes:
        target: Final path of the folder.
        files: Every file written, by its path in the folder.
        pictures: Every picture of the data set, by its path in the folder, or below `root` if it stays there.
        read_annotations: Every annotation file that was read, by its path below `root`.
        read_pictures: Every picture that was used, by its path below `root`.
    """

    def __init__(
        self, folder: Path, target: Path, root: Path, links: Links, checksum_pictures: bool, step: Step
    ) -> None:
        self.target = target
        self.files: dict[str, Entry] = {}
        self.pictures: dict[str, Entry] = {}
        self.read_annotations: dict[str, Entry] = {}
        self.read_pictures: dict[str, Entry] = {}
        self._folder = folder
        self._root = root
        self._links = links
        self._checksum_pictures = checksum_pictures
        self._step = step
        self._made = {folder}

    @contextmanager
    def open(self, name: str) -> Iterator[HashedFile]:
        """Open a new file for writing."""
        with self._prepare_path(name).open("wb") as file:
            hashed = HashedFile(file)
            yield hashed
        self.files[name] = hashed.entry()

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file."""
        with self.open(name) as file:
            file.write(data)

    def link(self, picture: Picture, *names: str) -> None:
        """Link or copy a picture into the folder, under one or more names.

        Raises:
            InvalidData: The link or copy cannot be made.
        """
        entry = self._record(picture)
        for name in names:
            link = self._prepare_path(name)
            try:
                _WAYS[self._links](picture.path, link)
            except OSError as error:
                raise InvalidData(
                    f"{picture.path} cannot be placed at {self.target / name} ({self._links}): {error.strerror}; "
                    "free some space or choose another kind of --links"
                ) from error
            self.pictures[name] = entry
        self._step()

    def refer(self, picture: Picture) -> str:
        """Record a picture that stays in the source, and return its path below `root`."""
        name = self._relative(picture.path)
        self.pictures[name] = self._record(picture)
        self._step()
        return name

    def read(self, path: Path) -> None:
        """Record an annotation file that the output is made from."""
        self.read_annotations[self._relative(path)] = Entry(path.stat().st_size, checksum(path))

    def _record(self, picture: Picture) -> Entry:
        entry = Entry(picture.bytes, checksum(picture.path) if self._checksum_pictures else None)
        self.read_pictures[self._relative(picture.path)] = entry
        return entry

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _prepare_path(self, name: str) -> Path:
        path = self._folder / name
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        return path


class HashedFile:
    """A file that is written sequentially and computes its checksum.

    Args:
        file: File to write to.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes, /) -> None:
        """Write the next bytes."""
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def entry(self) -> Entry:
        """Return size and checksum of the bytes written so far."""
        return Entry(self._bytes, self._digest.hexdigest())


def check_target(target: Path, source: Path, overwrite: bool) -> None:
    """Refuse an output folder whose content would be lost.

    Args:
        target: Output folder.
        source: Folder of the download.
        overwrite: Whether an earlier output of this command may be replaced; anything else never is.

    Raises:
        InvalidData: The folder is not empty, or contains the source.
    """
    if target == source or target in source.parents:
        raise InvalidData(f"the output folder {target} contains the source {source}; choose another folder")
    if target.exists() and not target.is_dir():
        raise InvalidData(f"{target} is a file; the output is a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not overwrite:
        raise InvalidData(f"{target} is not empty; choose another folder, or --overwrite to replace it")
    if not is_prepared(target):
        raise InvalidData(
            f"{target} holds something other than an output of this command; empty it yourself, or choose another"
        )


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yield a new folder beside the target; it replaces the target at the end, or is deleted after a failure."""
    token = secrets.token_hex(4)
    partial, older = (target.with_name(f".{target.name}.{token}.{suffix}") for suffix in ("part", "old"))
    new_parents = [parent for parent in target.parents if not parent.exists()]
    try:
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            target.rename(older)
        partial.rename(target)
    except BaseException:
        if older.exists() and not target.exists():
            older.rename(target)
        shutil.rmtree(partial, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):  # another process may have written a file there
                parent.rmdir()
        raise
    shutil.rmtree(older, ignore_errors=True)
