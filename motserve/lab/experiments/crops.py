"""Embeddings of the crops of a re-identification data set, cached or computed, and their retrieval scores."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motserve.config import Config
from motserve.errors import InvalidData
from motserve.files.names import readable
from motserve.lab.evaluation.reid_data import CropTable, Protocol, read_crops, read_protocol
from motserve.lab.evaluation.rerank import rerank_rows
from motserve.lab.evaluation.retrieval import RetrievalScores, cosine_rows, score_retrieval
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.detections import Progress, silent
from motserve.lab.experiments.models import Models
from motserve.models.provenance import describe_files
from motserve.types import FloatArray


@dataclass(frozen=True, slots=True)
class CropSet:
    """Queries and gallery of a data set, without junk.

    Attributes:
        root: Folder of the data set.
        protocol: Query/gallery protocol.
        query: The queries.
        gallery: The gallery.
        data: Checksums of both, for the provenance of a result.
    """

    root: Path
    protocol: Protocol
    query: CropTable
    gallery: CropTable
    data: dict[str, Any]


def load_crops(root: Path, protocol: Protocol, people: Collection[int] | None = None) -> CropSet:
    """Find the crops of a data set and check that they are complete.

    Args:
        root: Folder of the data set.
        protocol: Query/gallery protocol.
        people: IDs of the only people to use; None for all, including distractors.

    Raises:
        NotFound: The folder does not exist or has another layout.
        InvalidData: A name or a line of a list is malformed, or all queries or all of the gallery are junk.
    """
    query, gallery = (table.without_junk() for table in read_protocol(root, protocol))
    if people is not None:
        query, gallery = query.of_people(people), gallery.of_people(people)
    for part, table in (("queries", query), ("gallery crops", gallery)):
        if not len(table):
            reason = "only junk (identity -1)" if people is None else f"none of the {len(people)} selected people"
            raise InvalidData(f"{root}: the {part} contain {reason}; nothing can be scored")
    data = {"query": describe_files(query.paths, root), "gallery": describe_files(gallery.paths, root)}
    return CropSet(root, protocol, query, gallery, data)


def score_embedder(
    crops: CropSet, models: Models, cache: Cache, rerank: bool = False, progress: Progress = silent
) -> tuple[RetrievalScores, RetrievalScores | None]:
    """Score an embedder.

    Args:
        crops: The data set.
        models: The embedder; loaded only if embeddings are not in the cache.
        cache: Cache of embeddings.
        rerank: Also score with k-reciprocal re-ranking.
        progress: Called with the progress of embedding.

    Returns:
        The scores, and those after re-ranking, None without `rerank`.

    Raises:
        InvalidData: A crop cannot be read, or no query can be scored.
        WeightsUnavailable: The embedder's weights are not available.
    """
    settings = models.config.evaluation
    query, gallery = (
        embed_crops(table, crops.data[part]["sha256"], models, cache, part, progress)
        for part, table in (("query", crops.query), ("gallery", crops.gallery))
    )
    plain = score_retrieval(cosine_rows(query, gallery, settings.query_batch), crops.query, crops.gallery)
    if not rerank:
        return plain, None
    blocks = rerank_rows(query, gallery, settings.rerank, settings.query_batch)
    return plain, score_retrieval(blocks, crops.query, crops.gallery)


def embed_crops(
    table: CropTable, sha256: str, models: Models, cache: Cache, name: str, progress: Progress = silent
) -> FloatArray:
    """Embed crops, or read the embeddings of the same crops, weights and settings from the cache.

    Args:
        table: The crops.
        sha256: Checksum over them and their names.
        models: The embedder.
        cache: Cache of embeddings.
        name: Name of the crops in progress reports.
        progress: Called after each batch; not called when the cache has the result.

    Returns:
        `(n, d)` float32 unit vectors, in the order of the table.
    """
    key = {"crops": sha256, **models.embedding_key()}
    names = [readable(path.name) for path in table.paths]
    cached = cache.load_embeddings(key)
    if cached is not None and cached[0] == names:
        return cached[1]
    batch = models.config.reid.batch_size
    parts = []
    for start in range(0, len(table), batch):
        parts.append(models.embedder.embed(_read(table.paths[start : start + batch], models.config)))
        progress(name, min(start + batch, len(table)), len(table))
    embeddings = np.concatenate(parts)
    cache.store_embeddings(key, names, embeddings)
    return embeddings


def _read(paths: tuple[Path, ...], config: Config) -> Any:
    return read_crops(paths, config.reid.crop_height, config.reid.crop_width)
