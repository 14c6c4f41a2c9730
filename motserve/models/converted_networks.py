"""Stores networks that were converted for OpenVINO, so that each is converted once.

A network is one file, an archive with its graph and its arrays; each part has a checksum. A network that OpenVINO
cannot run is stored as the reason, so that it is not tried again at each start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from motserve.files.atomic import replacing, stale_temporary_files

logger = logging.getLogger("motserve.models")

_MAX_BYTES: Final = 2 << 30
"""Size of all stored networks; the longest unused are removed first. A large network has 0.3 GB."""

_NETWORK: Final = ".network"
_REFUSAL: Final = ".refused"
_GRAPH, _ARRAYS, _FACTS = "graph.xml", "arrays.bin", "facts.json"
_ABANDONED_S: Final = 86400.0
_MAX_REASON: Final = 2000
"""Most characters of a reason that are stored."""


class Graph(NamedTuple):
    """A converted network, in the two parts of OpenVINO's format.

    Attributes:
        graph: The layers, as XML.
        arrays: The trained values.
        facts: What those who run it have to know besides, such as the names of its classes, as a JSON document.
    """

    graph: bytes
    arrays: bytes
    facts: Mapping[str, Any]


class ConvertedNetworks:
    """The converted networks in a folder. An error of the disk is logged, and then nothing is stored.

    Args:
        folder: The folder; created when the first network is stored.
        max_bytes: Largest size of all files together; the last stored network is kept in any case.
    """

    def __init__(self, folder: Path, max_bytes: int = _MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def load(self, key: Mapping[str, Any]) -> Graph | None:
        """Return a network; None if it is not stored, or its file is damaged."""
        path = self._path(key, _NETWORK)
        try:
            with zipfile.ZipFile(path) as archive:
                graph = Graph(archive.read(_GRAPH), archive.read(_ARRAYS), json.loads(archive.read(_FACTS)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, EOFError, LookupError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile,
                zlib.error) as error:  # fmt: skip  # zipfile raises any of these for a flipped bit
            logger.warning("%s is damaged and made again: %s", path, error, extra={"path": str(path)})
            return None
        with suppress(OSError):
            os.utime(path)  # the longest unused files are removed first
        return graph

    def has(self, key: Mapping[str, Any]) -> bool:
        """Return whether a network is stored; its file may be damaged."""
        return self._path(key, _NETWORK).exists()

    def is_writable(self) -> bool:
        """Return whether networks can be stored; the folder may be missing yet."""
        existing = next((path for path in (self._folder, *self._folder.parents) if path.exists()), self._folder)
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)

    def store(self, key: Mapping[str, Any], network: Graph) -> None:
        """Store a network."""
        path = self._path(key, _NETWORK)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_GRAPH, network.graph)
                archive.writestr(_ARRAYS, network.arrays)
                archive.writestr(_FACTS, json.dumps(network.facts))
        except OSError as error:
            _not_stored(path, error)
            return
        self._prune(path)

    def refusal(self, key: Mapping[str, Any]) -> str | None:
        """Return why OpenVINO cannot run a network; None if that is not known."""
        try:
            return self._path(key, _REFUSAL).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def refuse(self, key: Mapping[str, Any], reason: str) -> None:
        """Store why OpenVINO cannot run a network."""
        path = self._path(key, _REFUSAL)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                partial.write_text(reason[:_MAX_REASON], encoding="utf-8")
        except OSError as error:
            _not_stored(path, error)
            return
        self._prune(path)

    def forget(self, key: Mapping[str, Any]) -> None:
        """Remove a network that turned out to be damaged."""
        with suppress(OSError):
            self._path(key, _NETWORK).unlink(missing_ok=True)

    def _path(self, key: Mapping[str, Any], suffix: str) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        return self._folder / f"{digest}{suffix}"

    def _prune(self, newest: Path) -> None:
        """Remove files, the longest unused first, until the others have at most `max_bytes` together.

        Those that killed writers left are removed a day later.
        """
        files: list[tuple[float, int, Path]] = []
        with suppress(OSError):
            for path in stale_temporary_files(self._folder, "*"):
                if path.stat().st_mtime < time.time() - _ABANDONED_S:
                    path.unlink(missing_ok=True)
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(FileNotFoundError):  # another process removes it
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                break
            if path != newest and path.suffix in (_NETWORK, _REFUSAL):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    total -= size


def _not_stored(path: Path, error: OSError) -> None:
    reason = error.strerror or error
    logger.warning("%s is not stored, and made again at the next start: %s", path, reason, extra={"path": str(path)})
