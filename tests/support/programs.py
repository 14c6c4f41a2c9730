"""Programs that tests run: found in the environment of this Python, else on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(sys.executable).parent
"""Folder of the environment's programs; it is on PATH only where the environment has been activated."""


def find_program(name: str) -> str | None:
    """Path of a program, None if it is not installed."""
    return shutil.which(name, path=f"{HERE}{os.pathsep}{os.environ.get('PATH', os.defpath)}")


def program(*names: str) -> str:
    """Path of the first program that is installed; the test is skipped if there is none."""
    for name in names:
        if found := find_program(name):
            return found
    pytest.skip(f"{' or '.join(names)} is not installed, see CONTRIBUTING.md")


def output_of(*command: str | Path, **variables: str) -> str:
    """What a program prints; the test fails with all that it printed if its exit status is not 0."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
