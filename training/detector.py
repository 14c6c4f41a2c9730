"""Trains a detector: `python -m training.detector --config configs/training/detector.yaml`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motserve.config import LoggingConfig
from motserve.config.files import read_settings
from motserve.errors import MotserveError
from motserve.evaluation.yolo_data import read_yolo
from motserve.logs import setup_logging
from motserve.provenance import describe_files
from motserve.weights import BUNDLED, resolve_weights
from training.detector_config import DetectorTraining
from training.detector_train import SCRATCH, initial_config, train_detector
from training.job import Job, run_job

logger = logging.getLogger("motserve.training")


def place(settings: DetectorTraining) -> tuple[DetectorTraining, dict[str, Any]]:
    """Find everything that is learned from, so that what is wrong is found before workers start.

    Returns:
        The settings for workers, which are in other folders: with absolute paths, and the exact version of a model of
        the registry. And a description of pictures, labels and initial weights, for the record.

    Raises:
        NotFound: A file is missing.
        InvalidData: A label is malformed.
        WeightsUnavailable: The weights to start from cannot be had.
    """
    data = settings.data.expanduser().absolute()
    described: dict[str, Any] = {}
    for split in dict.fromkeys(("train", "val", settings.test or "val")):
        found = read_yolo(data, split)
        described[split] = describe_files([data, *found.images, *found.labels], data.parent)
    init = settings.init
    if init != SCRATCH:
        config = initial_config(settings)
        weights = resolve_weights("detector", config)
        published = weights.path.is_relative_to(config.cache_dir.expanduser()) or weights.name == BUNDLED
        # other nodes fetch for themselves what is published; a file is the same for all
        init = weights.name if published else str(weights.path.absolute())
        described["init"] = weights.describe()
    return settings.model_copy(update={"data": data, "init": init}), described


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.detector", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/training/detector.yaml"), help="settings, YAML")
    chosen = parser.parse_args(arguments)
    setup_logging(LoggingConfig())
    try:
        settings = read_settings(chosen.config, DetectorTraining)
        settings, described = place(settings)
        outcome = run_job(Job("detector", settings, train_detector, described))
    except MotserveError as error:
        logger.error("%s", error)
        return 2
    logger.info("done", extra={"run": outcome.run_id, "version": outcome.version})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
