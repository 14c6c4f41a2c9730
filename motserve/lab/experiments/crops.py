"""Embeddings of the crops of a re-identification data set, kept from an earlier run or made now, and their scores."""

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
    """Queries and gallery of a data set, junk left out.

    Attributes:
        root: Folder of the data set.
        protocol: What is compared with what.
        query: The queries.
        gallery: The gallery.
        data: Checksums of both, for the stamp on a result.
    """

    root: Path
    protocol: Protocol
    query: CropTable
    gallery: CropTable
    data: dict[str, Any]


def load_crops(root: Path, protocol: Protocol, people: Collection[int] | None = None) -> CropSet:
    """Find the crops of a data set and check that all are there.

    Args:
        root: Folder of the data set.
        protocol: What is compared with what.
        people: The only people of it that count; None for all and for those whom nobody looks for.

    Raises:
        NotFound: The folder is not there or has another layout.
        InvalidData: A name or a line of a list is malformed, or queries or gallery are nothing but junk.
    """
    query, gallery = (table.without_junk() for table in read_protocol(root, protocol))
    if people is not None:
        query, gallery = query.of_people(people), gallery.of_people(people)
    for part, table in (("queries", query), ("gallery", gallery)):
        if not len(table):
            whom = "junk, whose identity is -1" if people is None else f"others than the {len(people)} people given"
            raise InvalidData(f"{root}: {part} of nothing but {whom}; there is nobody to find")
    data = {"query": describe_files(query.paths, root), "gallery": describe_files(gallery.paths, root)}
    return CropSet(root, protocol, query, gallery, data)


def score_embedder(
    crops: CropSet, models: Models, cache: Cache, rerank: bool = False, progress: Progress = silent
) -> tuple[RetrievalScores, RetrievalScores | None]:
    """Score an embedder.

    Args:
        crops: The data set.
        models: The embedder; loaded only where embeddings are not in the cache.
        cache: Where embeddings are kept.
        rerank: Score the re-ranked gallery as well.
        progress: Told how embedding goes.

    Returns:
        The scores, and those after re-ranking, None where that was not asked for.

    Raises:
        InvalidData: A crop cannot be read, or no query can be scored.
        WeightsUnavailable: The embedder's weights cannot be had.
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
    """Embed crops, or take what the cache holds of the same crops, weights and settings.

    Args:
        table: The crops.
        sha256: Checksum over them and their names.
        models: The embedder.
        cache: Where embeddings are kept.
        name: What progress calls them.
        progress: Told of each batch; not called when the cache answers.

    Returns:
        `(n, d)` float32 unit vectors, in the order of the table.
    """
    key = {"crops": sha256, **models.embedding_key()}
    names = [readable(path.name) for path in table.paths]
    kept = cache.load_embeddings(key)
    if kept is not None and kept[0] == names:
        return kept[1]
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
