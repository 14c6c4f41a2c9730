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
from typing import BinaryIO, Literal, TypeAlias

from motserve.errors import InvalidData
from motserve.lab.datasets.manifest import Entry, is_prepared
from motserve.lab.datasets.pictures import Picture
from motserve.models.checksums import checksum

Links = Literal["symlink", "hardlink", "copy"]

_WAYS: dict[Links, Callable[[Path, Path], object]] = {
    "symlink": lambda picture, link: link.symlink_to(picture),
    # what is linked must be the file itself, not a link that leads to it
    "hardlink": lambda picture, link: os.link(os.path.realpath(picture), link),
    "copy": shutil.copyfile,
}

Step: TypeAlias = Callable[[], None]


class Output:
    """What has been written so far, and what it was made from.

    Args:
        folder: Where to write now.
        target: Where the folder will be.
        root: Folder of the source that its names are relative to.
        links: How a picture gets into the folder.
        checksum_pictures: Whether to read every picture for its checksum.
        step: Called after every picture.

    Attributes:
        target: Where the folder will be.
        files: Every file written, by its path in the folder.
        pictures: Every picture of the data set, by its path in the folder, or below `root` where it stays there.
        read_annotations: Every file of annotations that was read, by its path below `root`.
        read_pictures: Every picture that was taken, by its path below `root`.
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
        with self._place(name).open("wb") as file:
            hashed = HashedFile(file)
            yield hashed
        self.files[name] = hashed.entry()

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file."""
        with self.open(name) as file:
            file.write(data)

    def link(self, picture: Picture, *names: str) -> None:
        """Put a picture into the folder, under one name or several.

        Raises:
            InvalidData: The file system does not take such links.
        """
        entry = self._take(picture)
        for name in names:
            link = self._place(name)
            try:
                _WAYS[self._links](picture.path, link)
            except OSError as error:
                raise InvalidData(
                    f"{picture.path} cannot be brought to {self.target / name} by {self._links}: {error.strerror}; "
                    "free some space or choose another way (--links)"
                ) from error
            self.pictures[name] = entry
        self._step()

    def refer(self, picture: Picture) -> str:
        """Take a picture into account that stays where it is, and return its path below the root of the source."""
        name = self._relative(picture.path)
        self.pictures[name] = self._take(picture)
        self._step()
        return name

    def read(self, path: Path) -> None:
        """Take a file of annotations into account that the output is made from."""
        self.read_annotations[self._relative(path)] = Entry(path.stat().st_size, checksum(path))

    def _take(self, picture: Picture) -> Entry:
        entry = Entry(picture.bytes, checksum(picture.path) if self._checksum_pictures else None)
        self.read_pictures[self._relative(picture.path)] = entry
        return entry

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _place(self, name: str) -> Path:
        path = self._folder / name
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        return path


class HashedFile:
    """A file that is written from front to end and knows its checksum.

    Args:
        file: Where the bytes go.
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
        """Return size and checksum of what was written so far."""
        return Entry(self._bytes, self._digest.hexdigest())


def check_target(target: Path, source: Path, overwrite: bool) -> None:
    """Refuse a place for the output where something would be lost.

    Args:
        target: Folder to write.
        source: Folder of the download.
        overwrite: Whether an earlier output may be replaced. Nothing else ever is.

    Raises:
        InvalidData: The place is taken, or holds the source.
    """
    if target == source or target in source.parents:
        raise InvalidData(f"the output folder {target} holds the source {source}; choose a folder outside of it")
    if target.exists() and not target.is_dir():
        raise InvalidData(f"{target} is a file; the output is a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not overwrite:
        raise InvalidData(f"{target} is not empty; choose another folder, or --overwrite to replace it")
    if not is_prepared(target):
        raise InvalidData(f"{target} holds no data set that this command wrote; empty it yourself, or choose another")


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Give a new folder beside the target; it takes the target's place at the end, or goes if anything failed."""
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
