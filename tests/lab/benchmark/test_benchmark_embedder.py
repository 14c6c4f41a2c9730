from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_checks import Motserve
from click.testing import Result

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig
from motserve.lab.benchmark.embedder import run, untrained
from motserve.reid.backbones import BACKBONES
from motserve.reid.embedder import CropEmbedder
from motserve.types import FloatArray


class FakeEmbedder(CropEmbedder):
    """Advances the clock by a given time per crop, 10 ms more in its first two passes, and logs all passes."""

    dimension, crop_size, device = 4, (0, 0), "cpu"

    def __init__(self, name: str, crop_size: tuple[int, int], crop_ms: float, passes: list[tuple[str, int]]) -> None:
        self.crop_size = crop_size
        self._name, self._crop_ms, self._passes = name, crop_ms, passes

    def embed(self, crops: np.ndarray) -> FloatArray:
        assert crops.shape[1:] == (*self.crop_size, 3)
        assert crops.dtype == np.uint8
        cold = sum(name == self._name for name, _ in self._passes) < 2
        self._passes.append((self._name, len(crops)))
        Clock.now += (len(crops) * self._crop_ms + 10 * cold) / 1e3
        return np.tile(np.array([[1, 0, 0, 0]], np.float32), (len(crops), 1))


class Clock:
    now = 0.0


def test_the_time_per_crop_is_a_median_without_the_warm_up() -> None:
    passes: list[tuple[str, int]] = []
    embedders = {
        "small": FakeEmbedder("small", (64, 32), 2, passes),
        "large": FakeEmbedder("large", (32, 32), 5, passes),
    }
    rows = run(embedders, [1, 4], rounds=3, clock=lambda: Clock.now)
    assert [(row.embedder, row.batch, row.crop_height, row.crop_width) for row in rows] == [
        ("small", 1, 64, 32),
        ("small", 4, 64, 32),
        ("large", 1, 32, 32),
        ("large", 4, 32, 32),
    ]
    assert [row.crop_ms for row in rows] == pytest.approx([2, 2, 5, 5])
    assert {(row.dimension, row.device, row.parameters) for row in rows} == {(4, "cpu", None)}
    # in turns, so that other load on the machine affects both
    assert passes == [("small", 1), ("large", 1)] * 5 + [("small", 4), ("large", 4)] * 5


@pytest.mark.parametrize(("batches", "rounds"), [([0], 1), ([1], 0)])
def test_an_empty_benchmark_is_refused(batches: list[int], rounds: int) -> None:
    with pytest.raises(ValueError, match="at least one crop and one round"):
        run({}, batches, rounds)


def test_untrained_networks_have_the_configured_crop_size() -> None:
    config = ReIDConfig(device="cpu", crop_height=64, crop_width=32)
    embedders = untrained(["osnet_x0_25", "mobilenet_v3_large"], config)
    assert list(embedders) == ["osnet_x0_25", "mobilenet_v3_large"]
    assert [embedder.crop_size for embedder in embedders.values()] == [(64, 32)] * 2
    assert embedders["mobilenet_v3_large"].embed(np.zeros((1, 64, 32, 3), np.uint8)).shape == (1, 512)
    with pytest.raises(InvalidConfig, match=f"unknown embedder vgg; known are {', '.join(BACKBONES)}"):
        untrained(["vgg"], config)


def bench(motserve: Motserve, *arguments: object) -> Result:
    small = ("--set", "reid.crop_height=64", "--set", "reid.crop_width=32", "--set", "reid.device=cpu")
    return motserve("benchmark", "reid", "--rounds", 1, *small, *arguments)


def test_backbones_and_files_are_timed_in_one_table(motserve: Motserve, untrained_embedder: Path) -> None:
    result = bench(
        motserve, "--embedders", "osnet_x0_25", "--weights", untrained_embedder, "--batches", "3,1", "--json", "a.json"
    )
    assert result.exit_code == 0, result.output
    for expected in ("osnet_x0_25", "untrained.safetensors", "64x32", "batch 3", "batch 1", "median of 1 passes"):
        assert expected in result.output
    rows = json.loads(Path("a.json").read_bytes())
    assert [(row["embedder"], row["dimension"], row["batch"]) for row in rows] == [
        ("osnet_x0_25", 512, 3),
        ("osnet_x0_25", 512, 1),
        ("untrained.safetensors", 32, 3),
        ("untrained.safetensors", 32, 1),
    ]
    assert all(row["crop_ms"] > 0 for row in rows)
    stamped = json.loads(Path("a.provenance.json").read_bytes())
    assert stamped["weights"]["untrained.safetensors"]["name"] == "untrained.safetensors"
    assert stamped["config"]["reid"]["batch_size"] == 3
    assert {"threads", "rounds", "seed"} <= set(stamped)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batches", "1,many"], "list of numbers"),
        (["--batches", "0"], "at least one crop"),
        (["--batches", "5000"], "reid.batch_size"),
        (["--embedders", "vgg"], "unknown embedder vgg"),
        (["--embedders", "none"], "nothing to time"),
        (["--embedders", "vit_b_16", "--set", "reid.crop_width=40"], "multiples of 16"),
    ],
)
def test_invalid_requests_are_refused_with_a_message(motserve: Motserve, arguments: list[str], message: str) -> None:
    result = bench(motserve, *arguments)
    assert result.exit_code == 2
    assert message in result.output
