"""Trains a detector: `python -m training.detector --config FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from motserve.errors import InvalidConfig
from motserve.lab.evaluation.yolo_data import read_yolo
from motserve.models.libraries import import_ultralytics
from motserve.models.weights import SHIPPED, resolve_weights
from training.command import run_command
from training.data_version import describe_data
from training.detector.config import DetectorTraining
from training.detector.train import initial_config, train_detector
from training.job import Job
from training.job_config import SCRATCH


def resolve_inputs(settings: DetectorTraining) -> tuple[DetectorTraining, dict[str, Any], str]:
    """Find and check data and weights before workers start.

    Returns:
        The settings for workers, with absolute paths and the exact version of a registered model; a description of
        pictures, labels and initial weights for the run in MLflow; and one for the user, with the length of the job.

    Raises:
        NotFound: A file is missing.
        InvalidConfig: Ultralytics has no network of that name.
        InvalidData: A label is malformed.
        WeightsUnavailable: The initial weights are not available.
    """
    data = settings.data.absolute()
    parts = {split: read_yolo(data, split) for split in ("train", "val", settings.test or "val")}
    # listed one by one, because Ultralytics writes cache files between them
    files = [data, *(file for part in parts.values() for file in (*part.images, *part.labels))]
    described: dict[str, Any] = {"data": describe_data(data.parent, files)}
    init = settings.init
    if init == SCRATCH:
        _check_architecture(settings.architecture)
    else:
        config = initial_config(settings)
        weights = resolve_weights("detector", config)
        published = weights.path.is_relative_to(config.cache_dir) or weights.name in SHIPPED
        # other nodes download published weights themselves; a file must be shared
        init = weights.name if published else str(weights.path.absolute())
        described["init"] = weights.describe()
    start = f"{settings.architecture} from random weights" if init == SCRATCH else f"from {settings.init}"
    about = (
        f"{len(parts['train'].images)} pictures of {settings.data} and {len(parts['val'].images)} for validation, "
        f"{start}, {settings.epochs} epochs at {settings.image_size} pixels"
    )
    return settings.model_copy(update={"data": data, "init": init}), described, about


def _check_architecture(name: str) -> None:
    import_ultralytics()
    from ultralytics.nn import tasks

    untyped: Any = tasks
    try:
        untyped.yaml_model_load(f"{name}.yaml")
    except FileNotFoundError as error:
        raise InvalidConfig(
            f"architecture: Ultralytics has no network {name}; use another name, such as yolov8s"
        ) from error


def make_job(settings: DetectorTraining) -> Job[DetectorTraining]:
    """Return the job for its settings; see `resolve_inputs`."""
    resolved, described, about = resolve_inputs(settings)
    return Job("detector", resolved, train_detector, described, about)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    return run_command("python -m training.detector", __doc__, DetectorTraining, make_job, arguments)
