"""The command line that training jobs share: `--config FILE … --name NAME --set key=value …`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from motserve.config import LoggingConfig, parse_overrides
from motserve.config.loading.yaml_files import layer_settings
from motserve.config.logs import setup_logging
from motserve.config.paths import local_path
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
    """Read the settings of a job, run it, and log its scores.

    Args:
        command: The command for the help text, such as `python -m training.reid`.
        about: Description for the help text.
        kind: Class of the settings.
        make: Function that makes the job from its settings.
        arguments: The command line; None for `sys.argv`.

    Returns:
        The exit code: 0 success, 2 unusable settings, data or weights.
    """
    parser = argparse.ArgumentParser(prog=command, description=about)
    parser.add_argument(
        "--config",
        type=local_path,
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="YAML file of settings, or the name of a shipped one, such as training/detector; later files override "
        "earlier ones",
    )
    parser.add_argument("--name", help="name of the job; overrides the name in the files")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings that override the files, such as compute.workers=2",
    )
    parser.add_argument("--output", type=local_path, metavar="FOLDER", help="folder for the finished model")
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
