"""Trains the bundled weights on rendered scenes: `python -m training.bundled detector|embedder --config FILE`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from motserve.errors import MotserveError
from training.bundled_config import load_bundled_config

logger = logging.getLogger("motserve.training.bundled")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one of the two networks; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.bundled", description=__doc__)
    parser.add_argument("network", choices=("detector", "embedder"))
    parser.add_argument("--config", type=Path, default=Path("configs/training/bundled.yaml"), help="settings, YAML")
    parser.add_argument("--output", type=Path, default=Path("runs/bundled"), help="folder for pictures and weights")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        config = load_bundled_config(chosen.config)
        output = chosen.output / chosen.network
        output.mkdir(parents=True, exist_ok=True)
        # torch and Ultralytics take seconds to import; `--help` and a wrong setting need neither.
        if chosen.network == "detector":
            from training.bundled_detector import train_detector as train
        else:
            from training.bundled_embedder import train_embedder as train
        logger.info("written: %s", train(config, output))
    except MotserveError as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
