"""The manifest of a prepared data set: its contents, its source, and one checksum that results refer to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from motserve.errors import InvalidData, NotFound

MANIFEST = "manifest.json"

# It contains paths on this machine; everything else in it is also in other files, which the checksum covers.
_LOCAL_FILES = frozenset({"dataset.yaml"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the manifest.

    Attributes:
        bytes: Its size.
        sha256: Its checksum; None for a picture that was not read.
    """

    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of `manifest.json`.

    Attributes:
        kind: Which data set.
        version: The version of motserve that wrote it.
        root: Folder of the source.
        options: Options of the preparation.
        left_out: A sentence for each part that the source lacks.
        counts: Number of pictures, boxes, people and so on in each split.
        source: Checksums over the annotation files and over the list of pictures, and the source folder of each
            sequence.
        pictures_in: Whether the pictures are in this folder or in the source folder.
        pictures: Every picture.
        files: Every file that was written.
    """

    kind: str
    version: str
    root: str
    options: Mapping[str, Any]
    left_out: tuple[str, ...]
    counts: Mapping[str, Any]
    source: Mapping[str, Any]
    pictures_in: Literal["output", "source"]
    pictures: Mapping[str, Entry]
    files: Mapping[str, Entry]

    @property
    def sha256(self) -> str:
        """The checksum of the data: equal wherever the same source was prepared in the same way.

        It covers what was read and what was written, so that options matter only by their effect. Paths on this
        machine, the version of motserve and the kind of links are not covered.
        """
        covered = {
            "kind": self.kind,
            "source": self.source,
            "pictures": _entries(self.pictures),
            "files": _entries({name: entry for name, entry in self.files.items() if name not in _LOCAL_FILES}),
        }
        return hashlib.sha256(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def to_json(self) -> bytes:
        """Return the text of the file."""
        tree = {
            "kind": self.kind,
            "sha256": self.sha256,
            "motserve": self.version,
            "root": self.root,
            "options": self.options,
            "left_out": list(self.left_out),
            "counts": self.counts,
            "source": self.source,
            "pictures_in": self.pictures_in,
            "files": _entries(self.files),
            "pictures": _entries(self.pictures),
        }
        return orjson.dumps(tree, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def is_prepared(folder: Path) -> bool:
    """Return whether a folder has a manifest of a prepared data set, even if it is incomplete."""
    try:
        tree = orjson.loads((folder / MANIFEST).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(tree, dict) and {"kind", "sha256", "motserve", "files"} <= tree.keys()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared data set.

    Args:
        folder: The folder that holds it.

    Raises:
        NotFound: The folder has no manifest.
        InvalidData: The file is not a manifest, or was changed since it was written.
    """
    path = folder / MANIFEST
    try:
        tree = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no {MANIFEST} in {folder}; `motserve datasets prepare` writes one") from error
    except orjson.JSONDecodeError as error:
        raise InvalidData(f"{path} is not JSON: {error}") from error
    try:
        manifest = Manifest(
            tree["kind"],
            tree["motserve"],
            tree["root"],
            tree["options"],
            tuple(tree["left_out"]),
            tree["counts"],
            tree["source"],
            tree["pictures_in"],
            {name: Entry(entry["bytes"], entry.get("sha256")) for name, entry in tree["pictures"].items()},
            {name: Entry(entry["bytes"], entry["sha256"]) for name, entry in tree["files"].items()},
        )
        stated = tree["sha256"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidData(f"{path} is not a manifest of a prepared data set: {error!r}") from error
    if stated != manifest.sha256:
        raise InvalidData(
            f"{path} was changed since it was written: its checksum does not match; prepare the data set again"
        )
    return manifest


def digest(entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the number and size of files, and one checksum over their names, sizes and checksums."""
    text = "".join(f"{entry.sha256 or '-'}  {entry.bytes}  {name}\n" for name, entry in sorted(entries.items()))
    return {
        "files": len(entries),
        "bytes": sum(entry.bytes for entry in entries.values()),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def _entries(entries: Mapping[str, Entry]) -> dict[str, dict[str, Any]]:
    return {
        name: {"bytes": entry.bytes} if entry.sha256 is None else {"bytes": entry.bytes, "sha256": entry.sha256}
        for name, entry in sorted(entries.items())
    }
