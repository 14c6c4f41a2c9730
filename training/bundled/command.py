"""Trains the bundled weights: `python -m training.bundled detector|embedder|ship --data FOLDER`.

It takes hours on a small machine. Finished steps are kept in `--work`; run it again to resume.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import motserve.models.bundled
from motserve.config.loading.shipped import CONFIGS
from motserve.config.paths import local_path
from training.bundled.make import Workspace, make_detector, make_embedder, make_free_embedder, open_workspace
from training.bundled.ship import ship
from training.terminal import job_terminal, run

STEPS: Mapping[str, Callable[[Workspace], object]] = {
    "detector": make_detector,
    "embedder": make_embedder,
    "free": make_free_embedder,
    "ship": lambda workspace: ship(workspace, Path(motserve.models.bundled.__file__).parent),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the steps; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.bundled", description=__doc__)
    parser.add_argument(
        "step", choices=tuple(STEPS), help="what to train; `ship` writes the trained weights into the package"
    )
    parser.add_argument(
        "--data", type=local_path, required=True, help="folder of the footage and of the detector that labels it"
    )
    parser.add_argument("--configs", type=local_path, default=CONFIGS / "training", help="folder of the settings")
    parser.add_argument("--work", type=local_path, default=Path("runs/bundled"), help="folder for all results")
    parser.add_argument("--logs", action="store_true", help="also print the logs of all processes and libraries")
    chosen = parser.parse_args(arguments)

    def make() -> None:
        workspace = open_workspace(chosen.data, chosen.configs, chosen.work)
        with job_terminal(chosen.work / f"{chosen.step}.log", chosen.logs) as say:
            STEPS[chosen.step](replace(workspace, say=say))

    again = shlex.join(["python", "-m", "training.bundled", *(sys.argv[1:] if arguments is None else arguments)])
    return run(make, f"to resume from the last checkpoint: {again}")
