"""Scores of a model on one set of data, in the form that the registry stores and compares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from motserve.config import Config
from motserve.lab.evaluation import Benchmark
from motserve.lab.evaluation.detection import DETECTION_COUNTS
from motserve.lab.evaluation.mot import RATIO_NAMES
from motserve.lab.evaluation.reid_data import Protocol
from motserve.lab.evaluation.retrieval import RETRIEVAL_RATIOS
from motserve.lab.evaluation.sequences import COMBINED, TruthFile
from motserve.lab.experiments.cache import open_cache
from motserve.lab.experiments.crops import load_crops, score_embedder
from motserve.lab.experiments.detections import Progress, silent
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.mot import track_and_score
from motserve.lab.experiments.pictures import detect_yolo, for_scoring, score_pictures
from motserve.lab.experiments.record import percent
from motserve.models.registry import Scores

_WHERE = {"weights", "device", "half", "batch_size"}
"""Settings that select the model and where it runs; scores are comparable only if all other settings are equal."""


def measure_detector(config: Config, data: Path, split: str, progress: Progress = silent) -> Scores:
    """Score the configured detector on a split of a YOLO data set: mAP50, mAP50-95, recall.

    Raises:
        MotserveError: Data or weights are missing or not valid; see `detect_yolo`.
    """
    settings = for_scoring(config)
    pictures = detect_yolo(data, split, Models(settings), open_cache(settings), progress)
    scores = score_pictures([pictures], settings)[COMBINED].as_dict()
    ratios = [name for name in scores if name not in DETECTION_COUNTS]
    metrics = _known(percent(scores, ratios), ratios)
    key = _key("detection", pictures.data, settings.detector.model_dump(mode="json", exclude=_WHERE))
    return Scores(f"{data.resolve().parent.name} {split}, {len(pictures.truth)} pictures", key, metrics)


def measure_tracking(
    config: Config,
    truths: Mapping[str, TruthFile],
    videos: Path | None = None,
    benchmark: Benchmark | None = None,
    progress: Progress = silent,
) -> Scores:
    """Score the tracks of the configured models on sequences: MOTA, IDF1, HOTA.

    Raises:
        MotserveError: Data or weights are missing or not valid; see `track_and_score`.
    """
    evaluation = track_and_score(
        truths, config, open_cache(config), videos=videos, benchmark=benchmark, progress=progress
    )
    combined = evaluation.scored.combined.scores.as_dict()
    metrics = _known(percent(combined, RATIO_NAMES), RATIO_NAMES)
    settings: dict[str, Any] = {
        "detector": config.detector.model_dump(mode="json", exclude=_WHERE),
        "tracker": config.tracker.model_dump(mode="json"),
        "reid": config.reid.model_dump(mode="json", exclude=_WHERE),
    }
    # the tracks depend on the other networks too, which may have changed since
    settings["with"] = {
        role: weights["sha256"] for role, weights in evaluation.weights.items() if role != "detector" and weights
    }
    # only the checksum of the video: the other details name the detector, which is what is compared
    data = {
        name: {"ground_truth": one["ground_truth"], "video": one["detections"]["sha256"]}
        for name, one in evaluation.data.items()
    }
    return Scores(f"{', '.join(truths)}, tracked", _key("mot", data, settings), metrics)


def measure_embedder(
    config: Config,
    root: Path,
    protocol: Protocol,
    progress: Progress = silent,
    people: Collection[int] | None = None,
) -> Scores:
    """Score the configured embedder on a data set of crops: CMC, mAP and mINP.

    Args:
        config: The configuration of embedder and cache.
        root: Folder of the data set.
        protocol: Query/gallery protocol.
        progress: Called with the progress of embedding.
        people: IDs of the only people to use; None for all.

    Raises:
        MotserveError: Data or weights are missing or not valid; see `score_embedder`.
    """
    crops = load_crops(root, protocol, people)
    plain, _ = score_embedder(crops, Models(config), open_cache(config), progress=progress)
    scores = plain.as_dict()
    metrics = _known(percent(scores, RETRIEVAL_RATIOS), RETRIEVAL_RATIOS)
    settings = config.reid.model_dump(mode="json", include={"crop_height", "crop_width", "feature"})
    key = _key("reid", {**crops.data, "protocol": protocol}, settings)
    chosen = "" if people is None else f" of {len(people)} people"
    return Scores(f"{root.resolve().name}, {protocol}, {len(crops.query)} queries{chosen}", key, metrics)


def _known(scores: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """Select scores by name, without those that are not finite, such as those of pictures without objects."""
    return {name: value for name, value in scores.items() if name in names and isfinite(value)}


def _key(kind: str, data: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([kind, data, settings], sort_keys=True, default=str).encode()).hexdigest()
