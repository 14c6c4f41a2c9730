"""The command line that training jobs share: `--config FILE … --name NAME --set key=value …`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from motserve.config import parse_overrides
from motserve.config.loading.yaml_files import layer_settings
from motserve.config.paths import local_path
from training.job import Job, run_job
from training.job_config import JobConfig
from training.terminal import job_terminal, run

Settings = TypeVar("Settings", bound=JobConfig)


def run_command(
    command: str,
    about: str | None,
    kind: type[Settings],
    make: Callable[[Settings], Job[Settings]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Read the settings of a job, run it, and print its progress and scores.

    Args:
        command: The command for the help text, such as `python -m training.reid`.
        about: Description for the help text.
        kind: Class of the settings.
        make: Function that makes the job from its settings.
        arguments: The command line; None for `sys.argv`.

    Returns:
        The exit code; see `training.terminal.run`.
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
    parser.add_argument(
        "--logs", action="store_true", help="also print what else goes to the log file, NAME.log in log_dir"
    )
    chosen = parser.parse_args(arguments)

    def train() -> None:
        named = [] if chosen.name is None else [f"name={chosen.name}"]
        settings = layer_settings(chosen.config, parse_overrides([*chosen.set, *named]), kind)
        with job_terminal(settings.log_dir / f"{settings.name}.log", chosen.logs) as say:
            run_job(make(settings), chosen.output, say)

    again = shlex.join([*command.split(), *(sys.argv[1:] if arguments is None else arguments)])
    return run(train, f"to resume from the last checkpoint: {again}")
