"""The checkpoints that a session writes, so that another session can resume its video.

A checkpoint is one `npz` file of NumPy: a header in JSON, and the state of the session as plain arrays. Unlike a
`pickle` it holds no code and no class names, so reading one runs nothing. Each array has a checksum, which reveals a
damaged file. Its size has the same bounds as the memory of a session: identities (`reid.gallery`), thumbnails
(`serving.identities`), buffered frames (`reid.decision.wait_s`).

Each attempt writes a file of its own name. So a session that is alive although it counts as lost cannot overwrite the
checkpoint of its successor.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

import motserve
from motserve.base import State, merge_states, substate
from motserve.config import Config
from motserve.config.base import Role
from motserve.errors import UnfitCheckpoint
from motserve.files.atomic import replacing, stale_temporary_files
from motserve.files.names import to_json
from motserve.serving.inference.backends import Names
from motserve.serving.stores import ArtifactStore, attempt_of

_FORMAT: Final = 4
_HEADER: Final = "header"
_STATE: Final = "state"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a session between two chunks of frames.

    Attributes:
        frames_written: Frames in the result file.
        bytes_written: Length of the result file.
        seconds: Seconds of work so far.
        names: Exact names of the weights in use by role.
        weights: Name and checksum of the weights in use by role.
        models: The models as recorded in the job.
        state: Arrays of tracker, identities and identity summaries; empty for a video that starts at its first frame.
    """

    frames_written: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    names: dict[Role, Names] = field(default_factory=dict)
    weights: dict[Role, dict[str, str]] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    state: State = field(default_factory=dict)


class CheckpointStore:
    """The checkpoints of one video.

    Args:
        artifacts: The files of the videos.
        video_id: The video.
        config: The configuration; a checkpoint made with another configuration is refused.
    """

    def __init__(self, artifacts: ArtifactStore, video_id: str, config: Config) -> None:
        self._artifacts = artifacts
        self._video_id = video_id
        self._written_by = {"format": _FORMAT, "motserve": motserve.__version__, "config": fingerprint(config)}

    def save(self, attempt: int, checkpoint: Checkpoint) -> int:
        """Write the checkpoint of an attempt and return its size in bytes; it replaces the previous one when complete.

        Raises:
            OSError: It cannot be written.
        """
        values = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint) if item.name != "state"}
        header = np.frombuffer(json.dumps({**self._written_by, **values}).encode(), np.uint8)
        arrays: dict[str, Any] = {_HEADER: header, **merge_states(**{_STATE: checkpoint.state})}
        with replacing(self._artifacts.checkpoint(self._video_id, attempt)) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def load(self) -> Checkpoint | None:
        """Return the checkpoint of the latest attempt that has one; None if there is none, or if its state is empty.

        Raises:
            UnfitCheckpoint: It is damaged, or was written with another release or configuration.
        """
        paths = self._artifacts.checkpoints(self._video_id)
        if not paths:
            return None
        checkpoint = self._read(paths[0])
        if not checkpoint.state:
            return None
        written = self._written()
        if written < checkpoint.bytes_written:
            raise UnfitCheckpoint(f"it follows {checkpoint.bytes_written} bytes of tracks, and the file has {written}")
        return checkpoint

    def remove(self, before: int) -> None:
        """Remove the checkpoints of attempts before `before`, and partial files that these attempts left."""
        for path in self._artifacts.checkpoints(self._video_id):
            if attempt_of(path) < before:
                path.unlink(missing_ok=True)
        for attempt in range(before):
            target = self._artifacts.checkpoint(self._video_id, attempt)
            for path in stale_temporary_files(target.parent, target.name):
                path.unlink(missing_ok=True)

    def _written(self) -> int:
        try:
            # on a network file system, only opening a file gives the length that another node wrote
            with self._artifacts.results(self._video_id).open("rb") as file:
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0

    def _read(self, path: Path) -> Checkpoint:
        try:
            # NumPy leaves a file open that it opened itself and cannot read
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                header = json.loads(archive[_HEADER].tobytes())
                written_by = {name: header.pop(name, None) for name in self._written_by}
                if written_by != self._written_by:
                    raise UnfitCheckpoint(f"{path.name} was written by {written_by}, not by {self._written_by}")
                arrays = {name: archive[name] for name in archive.files}
            names = {role: tuple(values) for role, values in header.pop("names").items()}
            return Checkpoint(**header, names=names, state=substate(arrays, _STATE))
        except (OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError,
                zipfile.BadZipFile, zlib.error) as error:  # fmt: skip  # zipfile raises any of these for a flipped bit
            raise UnfitCheckpoint(f"{path.name} is damaged: {error}") from error


def fingerprint(config: Config) -> str:
    """Return a checksum of all sections of the configuration that the tracks of a video depend on."""
    sections: list[Any] = [
        section.model_dump(mode="json")
        for section in (config.detector, config.tracker, config.reid, config.video, config.pipeline)
    ]
    sections.append(config.serving.identities.model_dump(mode="json"))
    return hashlib.sha256(to_json(sections, orjson.OPT_SORT_KEYS)).hexdigest()
