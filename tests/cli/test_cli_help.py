"""`--help` of every command is quick: it loads none of the large libraries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cli_checks import Motserve

from motserve.cli.lazy import load_command
from motserve.cli.main import COMMANDS

LARGE = (
    "cv2",
    "faiss",
    "mlflow",
    "motserve.config",
    "numpy",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "torch",
    "ultralytics",
)
"""Modules whose import takes longer than the help may take altogether."""

SCRIPT = f"""
import sys
from motserve.cli import app
for command in sys.stdin.read().split("\\n"):
    try:
        app([*command.split(), "--help"])
    except SystemExit as end:
        assert end.code == 0, command
    loaded = [name for name in {LARGE} if name in sys.modules]
    assert not loaded, (command, loaded)
"""


def names_of(name: str, command: Any) -> Iterator[str]:
    """The command's name, and those of its subcommands."""
    yield name
    for subname, subcommand in getattr(command, "commands", {}).items():
        yield from names_of(f"{name} {subname}", subcommand)


def test_help_of_every_command_loads_no_large_library() -> None:
    commands = [name for top, place in COMMANDS.items() for name in names_of(top, load_command(top, place))]
    commands.remove("track")
    assert len(commands) > 30
    shown = subprocess.run(
        [sys.executable, "-c", SCRIPT], input="\n".join(["", *commands]), capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("Usage:") == len(commands) + 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    command = load_command(name, COMMANDS[name])
    assert command.name == name
    assert " ".join(command.help.split()).startswith(COMMANDS[name].help)


def test_a_misspelt_command_is_corrected(motserve: Motserve) -> None:
    result = motserve("trak")
    assert result.exit_code == 2
    assert "Did you mean 'track'" in result.stderr


def test_commands_and_subcommands_are_completed() -> None:
    for typed, expected in (("motserve tra", "track"), ("motserve compare det", "detectors")):
        words = typed.split()
        done = subprocess.run(
            [sys.executable, "-c", "from motserve.cli import app; app(prog_name='motserve')"],
            env={"_MOTSERVE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)},
            capture_output=True,
            text=True,
        )
        assert expected in done.stdout.split(), done
