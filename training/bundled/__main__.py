"""Trains the bundled weights: `python -m training.bundled detector|embedder --data FOLDER`.

Hours on a small machine. What was finished is kept in `--work`; call it again to go on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from motserve.config import LoggingConfig
from motserve.errors import MotserveError
from motserve.logs import setup_logging
from training.bundled.make import make_detector, make_embedder, open_workshop

logger = logging.getLogger("motserve.training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one of the two networks; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.bundled", description=__doc__)
    parser.add_argument("network", choices=("detector", "embedder"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the footage, and of what labels it")
    parser.add_argument("--configs", type=Path, default=Path("configs/training"), help="folder of the settings")
    parser.add_argument("--work", type=Path, default=Path("runs/bundled"), help="folder for all that is made")
    chosen = parser.parse_args(arguments)
    setup_logging(LoggingConfig())
    try:
        workshop = open_workshop(chosen.data, chosen.configs, chosen.work)
        (make_detector if chosen.network == "detector" else make_embedder)(workshop)
    except MotserveError as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
