"""Caches the detections of whole videos, so that another tracker on the same video needs no detector.

An interrupted run leaves the detections of the frames it reached, and the next run goes on behind them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from motserve.config import Config
from motserve.models.weights import Weights
from motserve.pipeline.detections.file import DetectionFile
from motserve.pipeline.detections.key import detection_key
from motserve.pipeline.source_file import SourceFile
from motserve.types import Detections

logger = logging.getLogger("motserve.pipeline")

_FOLDER: Final = "detections"
_SUFFIX: Final = ".detections"
_NOT_OF_DECODING: Final = {"annotation", "crf", "preset", "download_timeout_s"}


class CachedDetections:
    """The cached detections of one video. An error of the disk ends the caching, never the run.

    Args:
        path: The file; None to cache nothing.
        max_bytes: Largest size of the file, and of all files of its folder.
        has_changed: Returns whether the video has changed since it was identified; then nothing is cached.
        is_other: Returns why new detections are not those that the file is for; empty if they are.

    Attributes:
        class_names: Name of each class index of the detector; None where nothing is cached yet.
        frames_reused: Frames whose detections an earlier run had computed.
    """

    def __init__(
        self,
        path: Path | None,
        max_bytes: int,
        has_changed: Callable[[], bool] = lambda: False,
        is_other: Callable[[], str] = str,
    ) -> None:
        self._path, self._max_bytes, self._has_changed, self._is_other = path, max_bytes, has_changed, is_other
        self._file: DetectionFile | None = None
        self.frames_reused = 0
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = DetectionFile(path, max_bytes)
                with suppress(PermissionError):
                    os.utime(path)  # the longest unused files are removed first
            except OSError as error:
                self._give_up(error)
        self.class_names = None if self._file is None else self._file.class_names

    def begin(self, class_names: Mapping[int, str]) -> None:
        """Start a new file; see `DetectionFile.begin`."""
        if self._file is not None:
            try:
                self._file.begin(class_names)
            except OSError as error:
                self._give_up(error)

    def take(self, indices: Sequence[int]) -> list[Detections] | None:
        """Return the detections of the next frames; None if they have to be computed."""
        if self._file is None:
            return None
        try:
            detections = self._file.take(indices)
        except OSError as error:
            self._give_up(error)
            return None
        self.frames_reused += 0 if detections is None else len(indices)
        return detections

    def store(self, indices: Sequence[int], detections: Sequence[Detections]) -> None:
        """Store the detections of frames that `take` did not have."""
        if self._file is None:
            return
        if reason := self._is_other():
            self._give_up(reason)
            return
        try:
            self._file.append(indices, detections)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file, and remove the longest unused files while all have more bytes than allowed."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            if self._has_changed():  # the frames may be of another video than the checksum
                logger.warning("%s: detections are not cached: the video changed while it was tracked", self._path)
                with suppress(OSError):
                    self._path.unlink()
            _prune(self._path.parent, self._max_bytes)

    def _give_up(self, reason: OSError | str) -> None:
        text = (reason.strerror or reason) if isinstance(reason, OSError) else reason
        logger.warning("%s: detections are not cached: %s", self._path, text)
        if self._file is not None:
            self._file.close()
            self._file = None


def open_cached_detections(
    config: Config, weights: Weights, video: SourceFile, backend: Callable[[], str | None] = lambda: None
) -> CachedDetections:
    """Return the cached detections of a video with these weights and settings; a new file if there are none.

    Args:
        config: The configuration; with 0 `disk.detections_cache_bytes` nothing is read or written.
        weights: The detector's weights.
        video: The video, which is read to compute its checksum.
        backend: Returns the library that runs the detector; None until it is loaded.
    """
    max_bytes = config.disk.detections_cache_bytes
    if not max_bytes:
        return CachedDetections(None, max_bytes)
    pipeline = config.pipeline
    key = {
        "video": video.description["sha256"],
        # pictures of one batch may change each other's last digits
        "chunk": (pipeline.first_chunk_size, pipeline.chunk_size, pipeline.max_chunk_bytes, config.detector.every),
        "decoding": config.video.model_dump(mode="json", exclude=_NOT_OF_DECODING),
        **detection_key(config.detector, weights, config.cache_dir),
    }

    def is_other() -> str:
        used = backend()
        return "" if used in (None, key["backend"]) else f"they are of {used}, not of {key['backend']}"

    path = config.cache_dir / _FOLDER / f"{_digest(key)}{_SUFFIX}"
    return CachedDetections(path, max_bytes, video.has_changed, is_other)


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def _prune(folder: Path, max_bytes: int) -> None:
    """Remove files, the longest unused first, until the others have at most `max_bytes` together."""
    files: list[tuple[float, int, Path]] = []
    with suppress(OSError):
        for path in folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # another process removes it
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= max_bytes and size:  # a file without content did not fit
            continue
        with suppress(OSError):
            path.unlink(missing_ok=True)
            total -= size
