"""Caches detections and embeddings in Parquet files, so that the next experiment takes seconds.

The key of a file covers everything that its content depends on: pictures, weights, settings and library versions. A
changed input makes another key, so nothing has to be invalidated.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config
from motserve.files.atomic import replacing
from motserve.models.extras import required_extra
from motserve.types import Detections, FloatArray

logger = logging.getLogger("motserve.lab.experiments")

Content = TypeVar("Content")

_FORMAT: Final = 2  # part of every key; raise it when the content of a file changes
_METADATA: Final = b"motserve"


def _import_arrow() -> tuple[Any, Any]:
    """Return `pyarrow` and `pyarrow.parquet`."""
    with required_extra("lab", "the cache of detections and embeddings"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    return pa, pq


class Cache:
    """Detections and embeddings on disk. Files that cannot be read or written cause a warning and are computed again.

    Args:
        folder: Folder of the files; made when the first is written.

    Raises:
        MissingExtra: PyArrow is not installed; without a cache, hours of work would be lost.
    """

    def __init__(self, folder: Path) -> None:
        _import_arrow()
        self._folder = folder

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Return the path of the file of a key, whether it exists or not."""
        text = json.dumps({"format": _FORMAT, "kind": kind, **key}, sort_keys=True)
        return self._folder / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"

    def load_detections(self, key: Mapping[str, Any]) -> tuple[list[Detections], NDArray[np.float64], Any] | None:
        """Return the detections of each frame, the timestamps in seconds and the notes; None if not cached."""
        return self._load(self.path("detections", key), _detections_in)

    def store_detections(
        self, key: Mapping[str, Any], detections: list[Detections], timestamps: NDArray[np.float64], notes: Any
    ) -> None:
        """Store the detections of each frame of a video or of each picture of a set.

        Args:
            key: What the detections depend on.
            detections: A `Detections` for each frame.
            timestamps: `(n,)` float64, presentation time of each frame in seconds.
            notes: Any other JSON value to store with them.
        """
        pa, _ = _import_arrow()
        lists = {"boxes": pa.float32(), "scores": pa.float32(), "classes": pa.int64()}
        columns = {
            "timestamp": pa.array(timestamps, pa.float64()),
            **{
                name: pa.array([np.ravel(getattr(frame, name)) for frame in detections], pa.list_(kind))
                for name, kind in lists.items()
            },
        }
        self._write(self.path("detections", key), pa.table(columns), key, notes)

    def load_embeddings(self, key: Mapping[str, Any]) -> tuple[list[str], FloatArray] | None:
        """Return the names of crops and their embeddings `(n, d)`; None if not cached."""
        return self._load(self.path("embeddings", key), _embeddings_in)

    def store_embeddings(self, key: Mapping[str, Any], crops: list[str], embeddings: FloatArray) -> None:
        """Store embeddings.

        Args:
            key: What the embeddings depend on.
            crops: A name for each crop.
            embeddings: `(n, d)` float32, d at least 1.
        """
        pa, _ = _import_arrow()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(embeddings)), embeddings.shape[1])
        table = pa.Table.from_arrays([pa.array(crops, pa.string()), vectors], names=["crop", "embedding"])
        self._write(self.path("embeddings", key), table, key, None)

    def _load(self, path: Path, parse: Callable[[Any], Content]) -> Content | None:
        if not path.is_file():
            return None
        pa, pq = _import_arrow()
        try:
            with path.open("rb") as file:  # Arrow accepts only UTF-8 names
                return parse(pq.read_table(file, page_checksum_verification=True))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            logger.warning("%s cannot be read and is computed again: %s", path, error)
            return None

    def _write(self, path: Path, table: Any, key: Mapping[str, Any], notes: Any) -> None:
        _, pq = _import_arrow()
        text = json.dumps({"key": dict(key), "notes": notes})
        table = table.replace_schema_metadata({_METADATA: text.encode()})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial, partial.open("wb") as file:
                pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        except OSError as error:
            logger.warning("%s cannot be written, so the next run computes it again: %s", path, error)


def _detections_in(table: Any) -> tuple[list[Detections], NDArray[np.float64], Any]:
    columns = (table.column(name).to_pylist() for name in ("boxes", "scores", "classes"))
    detections = [
        Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, int))
        for boxes, scores, classes in zip(*columns, strict=True)
    ]
    notes = json.loads(table.schema.metadata[_METADATA])["notes"]
    return detections, table.column("timestamp").to_numpy(), notes


def _embeddings_in(table: Any) -> tuple[list[str], FloatArray]:
    vectors = table.column("embedding").combine_chunks()
    flat = np.asarray(vectors.flatten().to_numpy(), np.float32)
    return table.column("crop").to_pylist(), flat.reshape(len(table), vectors.type.list_size)


def open_cache(config: Config) -> Cache:
    """Return the cache in `cache_dir` of a configuration; its folder may be deleted at any time."""
    return Cache(config.cache_dir / "experiments")
