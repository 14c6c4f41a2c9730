"""Embedders side by side on the same crops: accuracy, speed on this machine, size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from motserve.config import Config
from motserve.lab.compare.comparison import Axes, Column, Comparison
from motserve.lab.compare.timing import measure_speed
from motserve.lab.evaluation.reid_data import read_crops
from motserve.lab.evaluation.retrieval import RETRIEVAL_RATIOS
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.crops import CropSet, score_embedder
from motserve.lab.experiments.detections import Progress
from motserve.lab.experiments.models import Models

_EMBEDDER: Final = Column("embedder", "embedder", "text")
_MAP: Final = Column("mAP", "mAP", "percent")
_PER_CROP: Final = Column("crop_ms", "ms/crop", "decimal")
_COLUMNS: Final = (
    _EMBEDDER,
    Column("Rank-1", "Rank-1", "percent"),
    Column("Rank-5", "Rank-5", "percent"),
    _MAP,
    Column("mINP", "mINP", "percent"),
    _PER_CROP,
    Column("dimension", "dim.", "count"),
    Column("parameters", "M par.", "millions"),
)
_RERANKED: Final = (Column("reranked Rank-1", "R-1*", "percent"), Column("reranked mAP", "mAP*", "percent"))


def compare_embedders(
    crops: CropSet, candidates: Mapping[str, Config], cache: Cache, rerank: bool, progress: Progress
) -> tuple[Comparison, dict[str, Any]]:
    """Score and time every candidate.

    Args:
        crops: The data set.
        candidates: Configurations by the name of the candidate; their section `reid` is used.
        cache: Cache of embeddings.
        rerank: Score re-ranking as well.
        progress: Called with the progress of embedding.

    Returns:
        A row for each candidate; and the weights of each, for the provenance stamp.

    Raises:
        WeightsUnavailable: The weights of a candidate are not available; nothing is run.
    """
    weights = {name: Models(config).reid_weights.describe() for name, config in candidates.items()}
    rows = []
    for name, config in candidates.items():
        models = Models(config)
        plain, reranked = score_embedder(crops, models, cache, rerank, progress)
        reid = config.reid
        timed_paths = crops.gallery.paths[: config.evaluation.timed_images]
        pixels = read_crops(timed_paths, reid.crop_height, reid.crop_width)
        speed = measure_speed(models.embedder.embed, pixels, reid.batch_size)
        reranked_scores = {f"reranked {key}": value for key, value in reranked.as_dict().items()} if reranked else {}
        rows.append(
            {
                "embedder": name,
                **plain.as_dict(),
                **reranked_scores,
                "crop_ms": 1e3 / speed.per_second,
                "median_ms": speed.median_ms,
                "dimension": models.embedder.dimension,
                "parameters": models.embedder.parameters,
                "weights": weights[name]["name"],
            }
        )
    columns = (*_COLUMNS, *(_RERANKED if rerank else ()))
    axes = Axes(_PER_CROP, _MAP, _EMBEDDER, "time of a crop in batches, ms")
    title = f"Embedders, {crops.root.resolve().name}, {crops.protocol}" + (", * re-ranked" if rerank else "")
    ratios = (*RETRIEVAL_RATIOS, *(f"reranked {name}" for name in RETRIEVAL_RATIOS))
    return Comparison(title, columns, rows, axes, ratios), weights
