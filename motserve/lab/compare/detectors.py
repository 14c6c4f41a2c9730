"""Detectors side by side on the same pictures: accuracy, speed on this machine, size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from motserve.config import Config
from motserve.errors import InvalidData
from motserve.lab.compare.comparison import Axes, Column, Comparison
from motserve.lab.compare.timing import measure_speed
from motserve.lab.evaluation.detection import DETECTION_COUNTS, recall_name
from motserve.lab.evaluation.sequences import COMBINED
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.pictures import LabelledPictures, for_scoring, score_pictures

DetectPictures: TypeAlias = Callable[[Models], Sequence[LabelledPictures]]
"""Runs the detector on the pictures of the comparison, or reads its detections from the cache."""

_DETECTOR: Final = Column("detector", "detector", "text")
_MAP50: Final = Column("mAP50", "mAP50", "percent")
_MEDIAN: Final = Column("median_ms", "ms", "count")


def compare_detectors(candidates: Mapping[str, Config], detect: DetectPictures) -> tuple[Comparison, dict[str, Any]]:
    """Score and time every candidate.

    Args:
        candidates: Configurations by the name of the candidate; their section `detector` is used.
        detect: Returns the pictures with the detections of a candidate.

    Returns:
        A row for each candidate, over all pictures; and the weights of each, for the provenance stamp.

    Raises:
        InvalidData: There is no picture to time the detectors on.
        WeightsUnavailable: The weights of a candidate are not available; nothing is run.
    """
    weights = {name: Models(config).detector_weights.describe() for name, config in candidates.items()}
    rows = []
    limits: tuple[float, ...] = ()
    for name, config in candidates.items():
        models = Models(for_scoring(config))
        parts = detect(models)
        scores = score_pictures(parts, config)[COMBINED]
        limits = tuple(scores.recalls)
        images = parts[0].sample(config.evaluation.timed_images)
        if not images:
            raise InvalidData("there is no picture to time the detectors on")
        # timed with the configured confidence, not with the low one that average precision is measured down to
        detector = Models(config).detector
        speed = measure_speed(detector.detect, images, config.evaluation.detect_batch)
        rows.append(
            {
                "detector": name,
                **scores.as_dict(),
                "median_ms": speed.median_ms,
                "fps": speed.per_second,
                "parameters": detector.parameters,
                "image_size": config.detector.image_size,
                "weights": weights[name]["name"],
            }
        )
    columns = (
        _DETECTOR,
        _MAP50,
        Column("mAP50-95", "50-95", "percent"),
        *(Column(recall_name(limit), f"R@{limit:g}", "percent") for limit in limits),
        _MEDIAN,
        Column("fps", "frames/s", "decimal"),
        Column("parameters", "M par.", "millions"),
        Column("image_size", "pixels", "count"),
    )
    axes = Axes(_MEDIAN, _MAP50, _DETECTOR, "median time of a frame, ms")
    ratios = tuple(key for key in scores.as_dict() if key not in DETECTION_COUNTS)
    return Comparison("Detectors", columns, rows, axes, ratios), weights
