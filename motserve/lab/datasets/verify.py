"""Compares a prepared data set with its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from motserve.files.folders import is_hidden
from motserve.lab.datasets.manifest import Entry, read_manifest
from motserve.models.checksums import checksum

# Cache files that Ultralytics writes beside pictures.
_CACHES = frozenset({".npy", ".cache"})


def verify(folder: str | Path, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Compare the files and pictures of a prepared data set with its manifest.

    Args:
        folder: The folder that `prepare` wrote.
        progress: Called with the number of checked files and their total.

    Returns:
        A line for each file that was changed, is missing or was added; empty if nothing changed.

    Raises:
        NotFound: The folder has no manifest.
        InvalidData: The manifest is malformed or was changed.
    """
    folder = Path(folder).resolve()
    manifest = read_manifest(folder)
    pictures = folder if manifest.pictures_in == "output" else Path(manifest.root)
    expected = [(folder, name, entry) for name, entry in manifest.files.items()]
    expected += [(pictures, name, entry) for name, entry in manifest.pictures.items()]
    changes = []
    for done, (root, name, entry) in enumerate(expected, 1):
        change = _compare(root / name, entry)
        if change:
            changes.append(f"{name} {change}")
        if progress is not None:
            progress(done, len(expected))
    return changes + [f"{name} was added" for name in _added_files(folder, {name for _, name, _ in expected})]


def _compare(path: Path, entry: Entry) -> str | None:
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"has {size} bytes, not {entry.bytes}"
        return "was changed" if entry.sha256 is not None and checksum(path) != entry.sha256 else None
    except FileNotFoundError:
        return f"links to {path.readlink()}, which does not exist" if path.is_symlink() else "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _added_files(folder: Path, known: set[str]) -> Iterator[str]:
    """Find files that are not part of the data set but that readers of whole folders would use."""
    parents = {parent for name in known if (parent := PurePosixPath(name).parent.as_posix()) != "."}
    for parent in sorted(parents):
        place = folder / parent
        for entry in sorted(place.iterdir()) if place.is_dir() else []:
            name = f"{parent}/{entry.name}"
            if not entry.is_dir() and not is_hidden(entry.name) and entry.suffix not in _CACHES and name not in known:
                yield name
