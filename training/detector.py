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
from training.detector_config import DetectorTraining
from training.detector_train import train_detector
from training.job import Job, run_job

logger = logging.getLogger("motserve.training")


def describe_data(settings: DetectorTraining) -> dict[str, Any]:
    """Read all labels, so that what is wrong is found before training, and describe what is learned from.

    Raises:
        NotFound: A file is missing.
        InvalidData: A file is malformed.
    """
    data = settings.data.expanduser()
    described = {}
    for split in dict.fromkeys(("train", "val", settings.test or "val")):
        found = read_yolo(data, split)
        described[split] = describe_files([data, *found.images, *found.labels], data.parent)
    return described


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.detector", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/training/detector.yaml"), help="settings, YAML")
    chosen = parser.parse_args(arguments)
    setup_logging(LoggingConfig())
    try:
        settings = read_settings(chosen.config, DetectorTraining)
        outcome = run_job(Job("detector", settings, train_detector, describe_data(settings)))
    except MotserveError as error:
        logger.error("%s", error)
        return 2
    logger.info("done", extra={"run": outcome.run_id, "version": outcome.version})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
