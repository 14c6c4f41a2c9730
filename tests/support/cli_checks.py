"""Runs the command line in tests and checks its output and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

Motserve = Callable[..., Result]
"""Runs the command line with these arguments."""


def files_in(folder: str | Path = ".") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def document(path: str | Path) -> Any:
    return json.loads(Path(path).read_bytes())


def assert_error(result: Result, code: int, *said: str) -> None:
    """Check the exit code, and that standard error has one line with these texts."""
    assert result.exit_code == code, result.output
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for text in said:
        assert text in line


def assert_usage(result: Result, *said: str) -> None:
    """Check that a usage error is explained without a traceback."""
    assert result.exit_code == 2, result.output
    assert not result.stdout
    assert "Traceback" not in result.stderr
    plain = " ".join(result.stderr.replace("│", " ").split())
    for text in said:
        assert text in plain
