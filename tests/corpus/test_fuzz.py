from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from corpus.fuzz import fuzz
from corpus.mutate import mutate


def test_damage_is_repeatable() -> None:
    data = bytes(range(256)) * 40
    made = {mutate(data, data[::-1], random.Random(seed)) for seed in range(50)}
    assert len(made) > 45
    assert mutate(data, data[::-1], random.Random(7)) == mutate(data, data[::-1], random.Random(7))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the FFmpeg command line is not installed")
def test_damaged_files_give_frames_or_typed_errors(corpus: Path, tmp_path: Path) -> None:
    assert fuzz(corpus, tmp_path / "faults", seed=1, seconds=10) == 0
