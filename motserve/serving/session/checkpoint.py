"""What a session leaves on disk now and then, so that another one can go on from there.

A checkpoint is one file of NumPy's `npz` kind: a header in JSON, and the state of the session as plain arrays. Nothing
in it is code or names a class, as it would with `pickle`, so that reading one runs nothing, and each array carries a
checksum, which tells a damaged file. Its size is bounded by what bounds the memory of a session: people remembered
(`reid.gallery`), portraits (`serving.identities`), frames held back (`reid.decision.wait_s`).

Each attempt writes a file of its own name. A session that was taken for lost and is alive after all can therefore not
put its checkpoint in the place of that of its successor.
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
from motserve.errors import UnfitCheckpoint
from motserve.files.atomic import left_over, replacing
from motserve.files.names import to_json
from motserve.serving.inference.model_cache import Names
from motserve.serving.stores import ArtifactStore, attempt_of

_FORMAT: Final = 2
_HEADER: Final = "header"
_STATE: Final = "state"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A session between two chunks of frames.

    Attributes:
        frames_written: Frames in the result file.
        bytes_written: Length of the result file.
        seconds: Seconds of work so far.
        names: Exact names of the weights in use by role.
        weights: Name and checksum of the weights in use by role.
        models: What the job says of the models.
        state: Arrays of tracker, identities and portraits; empty for a video that begins anew.
    """

    frames_written: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    names: dict[str, Names] = field(default_factory=dict)
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    state: State = field(default_factory=dict)


class CheckpointStore:
    """The checkpoints of one video.

    Args:
        artifacts: The files of the videos.
        video_id: The video.
        config: The configuration; a checkpoint made under another is of no use.
    """

    def __init__(self, artifacts: ArtifactStore, video_id: str, config: Config) -> None:
        self._artifacts = artifacts
        self._video_id = video_id
        self._origin = {"format": _FORMAT, "motserve": motserve.__version__, "config": fingerprint(config)}

    def save(self, attempt: int, checkpoint: Checkpoint) -> int:
        """Write the checkpoint of an attempt and return its bytes; the one before is there until this one is whole.

        Raises:
            OSError: It cannot be written.
        """
        values = {one.name: getattr(checkpoint, one.name) for one in fields(checkpoint) if one.name != "state"}
        header = np.frombuffer(json.dumps({**self._origin, **values}).encode(), np.uint8)
        arrays: dict[str, Any] = {_HEADER: header, **merge_states(**{_STATE: checkpoint.state})}
        with replacing(self._artifacts.checkpoint(self._video_id, attempt)) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def load(self) -> Checkpoint | None:
        """Return the checkpoint of the latest attempt that has one; None where there is none to go on from.

        Raises:
            UnfitCheckpoint: It is damaged, or of another release or configuration.
        """
        paths = self._artifacts.checkpoints(self._video_id)
        if not paths:
            return None
        checkpoint = self._read(paths[0])
        if not checkpoint.state:
            return None
        written = self._written()
        if written < checkpoint.bytes_written:
            raise UnfitCheckpoint(f"{checkpoint.bytes_written} bytes of tracks were written, and {written} are there")
        return checkpoint

    def remove(self, before: int) -> None:
        """Remove the checkpoints of the attempts before one, and what was left of those that were never whole."""
        for path in self._artifacts.checkpoints(self._video_id):
            if attempt_of(path) < before:
                path.unlink(missing_ok=True)
        for attempt in range(before):
            target = self._artifacts.checkpoint(self._video_id, attempt)
            for path in left_over(target.parent, target.name):
                path.unlink(missing_ok=True)

    def _written(self) -> int:
        try:
            # over a network, only opening a file tells how long it has become elsewhere
            with self._artifacts.results(self._video_id).open("rb") as file:
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0

    def _read(self, path: Path) -> Checkpoint:
        try:
            with np.load(path, allow_pickle=False) as archive:
                header = json.loads(archive[_HEADER].tobytes())
                origin = {name: header.pop(name, None) for name in self._origin}
                if origin != self._origin:
                    raise UnfitCheckpoint(f"{path.name} is of {origin}, and this session of {self._origin}")
                arrays = {name: archive[name] for name in archive.files}
            names = {role: tuple(found) for role, found in header.pop("names").items()}
            return Checkpoint(**header, names=names, state=substate(arrays, _STATE))
        except (OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError,
                zipfile.BadZipFile, zlib.error) as error:  # fmt: skip  # whatever a flipped bit makes zipfile believe
            raise UnfitCheckpoint(f"{path.name} is damaged: {error}") from error


def fingerprint(config: Config) -> str:
    """Return a checksum of everything in a configuration that the tracks of a video depend on."""
    parts: list[Any] = [
        section.model_dump(mode="json")
        for section in (config.detector, config.tracker, config.reid, config.video, config.pipeline)
    ]
    parts.append(config.serving.identities.model_dump(mode="json"))
    return hashlib.sha256(to_json(parts, orjson.OPT_SORT_KEYS)).hexdigest()
