"""`import motserve`: its names, its cost, and the three lines of the documentation in a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import motserve

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
HEAVY = ("torch", "numpy", "cv2", "ray", "pydantic", "importlib.metadata")


def run(code: str, folder: Path) -> str:
    environment = {"PYTHONPATH": str(Path(motserve.__file__).parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_import_loads_nothing_heavy(tmp_path: Path) -> None:
    measured = run(
        "import time, resource, sys; before = set(sys.modules); start = time.perf_counter()\n"
        "import motserve\n"
        "seconds, kib = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(f'{seconds:.3f} s, {kib / 1024:.0f} MiB'); print(*sorted(set(sys.modules) - before))",
        tmp_path,
    )
    loaded = measured.splitlines()[1].split()
    assert not [name for name in HEAVY if name in loaded], measured


def test_every_public_name_exists_and_is_listed() -> None:
    for name in motserve.__all__:
        assert getattr(motserve, name) is getattr(motserve, name)
        assert name in dir(motserve)
    assert issubclass(motserve.errors.InvalidVideo, motserve.errors.MotserveError)
    with pytest.raises(AttributeError, match="no attribute 'trak'"):
        motserve.trak  # type: ignore[attr-defined]  # noqa: B018


def test_the_package_is_typed() -> None:
    assert (Path(motserve.__file__).parent / "py.typed").exists()


def test_a_script_of_three_lines_tracks_a_clip(tmp_path: Path, clip: Path, untrained: Sequence[str]) -> None:
    (tmp_path / "people.mp4").write_bytes(clip.read_bytes())
    overrides = [*untrained[1::2], "pipeline.chunk_size=4"]
    shown = run(
        "import motserve\n"
        f"for frame in motserve.track('people.mp4', overrides={overrides!r}):\n"
        "    print(frame.timestamp, frame.identities, frame.boxes.shape, frame.image.shape)",
        tmp_path,
    )
    lines = shown.splitlines()
    assert len(lines) == 12
    assert all(line.endswith("(112, 192, 3)") for line in lines)


def test_a_script_that_ends_in_the_middle_of_a_video_ends(tmp_path: Path, clip: Path, untrained: Sequence[str]) -> None:
    shown = run(
        "import motserve\n"
        f"video = motserve.track({str(clip)!r}, overrides={list(untrained[1::2])!r})\n"
        "print(next(video).index)\n"
        "print(next(video).index)",
        tmp_path,
    )
    assert shown.split() == ["0", "1"]


@pytest.fixture
def blocks(tmp_path: Path, clip: Path, untrained: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The code of the Python page, which runs in a folder with its video."""
    (tmp_path / "people.mp4").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    for setting in untrained[1::2]:
        key, _, value = setting.partition("=")
        monkeypatch.setenv("MOTSERVE_" + key.upper().replace(".", "__"), value)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    return blocks


def test_the_code_of_the_python_page_runs(blocks: list[str], tmp_path: Path) -> None:
    variables: dict[str, object] = {}
    for code in blocks:
        exec(compile(code, PAGE.name, "exec"), variables)
    assert (tmp_path / "tracks.csv").exists()
    assert (tmp_path / "annotated.mp4").exists()


def test_the_code_of_the_python_page_runs_in_a_notebook(
    blocks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(motserve.__file__).parents[1]))
    shown = ["frame = next(iter(motserve.track('people.mp4')))\nframe", "motserve.track('people.mp4').run()"]
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": str(number), "source": code, "metadata": {}, "outputs": [], "execution_count": None}
        for number, code in enumerate([*blocks, *shown])
    ]
    notebook: Any = nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})  # type: ignore[no-untyped-call]
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    picture, table = (html_of(cell) for cell in notebook.cells[-2:])
    assert 'src="data:image/jpeg;base64,' in picture
    assert "<th>identities</th>" in table


def html_of(cell: Any) -> str:
    return "".join(output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {}))
