"""The command line that training jobs share: `--config FILE … --name NAME --set key=value …`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from motserve.config import LoggingConfig, parse_overrides
from motserve.config.logs import setup_logging
from motserve.config.paths import local_path
from motserve.config.yaml_files import layer_settings
from training.exit_code import exit_code
from training.job import Job, run_job
from training.job_config import JobConfig

logger = logging.getLogger("motserve.training")

Settings = TypeVar("Settings", bound=JobConfig)


def run_command(
    command: str,
    about: str | None,
    kind: type[Settings],
    make: Callable[[Settings], Job[Settings]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Read the settings of a job, run it, and say in the log what came of it.

    Args:
        command: The command as people type it, such as `python -m training.reid`.
        about: What it does, for its help.
        kind: What its settings are.
        make: Turns settings into the job.
        arguments: The command line; None for that of the process.

    Returns:
        The exit code: 0 done, 2 settings, data or weights with which the job could not run.
    """
    parser = argparse.ArgumentParser(prog=command, description=about)
    parser.add_argument(
        "--config",
        type=local_path,
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="settings, YAML; of several files the later ones win",
    )
    parser.add_argument("--name", help="name of the job, in place of that in the files")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings that win over the files, such as compute.workers=2",
    )
    parser.add_argument("--output", type=local_path, metavar="FOLDER", help="folder that gets the finished model")
    chosen = parser.parse_args(arguments)
    setup_logging(LoggingConfig())

    def run() -> None:
        named = [] if chosen.name is None else [f"name={chosen.name}"]
        settings = layer_settings(chosen.config, parse_overrides([*chosen.set, *named]), kind)
        outcome = run_job(make(settings), chosen.output)
        for one in outcome.scores:
            logger.info("measured", extra={"data": one.data, **one.metrics})
        logger.info("job is done", extra={"job": settings.name, "run": outcome.run_id, "registered": outcome.version})

    return exit_code(run, logger)
