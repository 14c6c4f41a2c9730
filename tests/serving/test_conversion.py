"""The network of a replica is converted in a process of its own."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from motserve.config import Config, load_config
from motserve.models.checksums import checksum
from motserve.models.weights import Weights
from motserve.reid import build_embedder
from motserve.serving.inference import conversion
from motserve.serving.inference.conversion import convert_apart


def configure(folder: Path, **reid: Any) -> Config:
    small = {"crop_height": 64, "crop_width": 32, "device": "cpu", **reid}
    return load_config([{"cache_dir": str(folder), "reid": small}])


@pytest.fixture
def weights(untrained_embedder: Path) -> Weights:
    return Weights("untrained", untrained_embedder, checksum(untrained_embedder), "")


def test_the_converted_network_is_stored_once(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure(tmp_path)
    with caplog.at_level(logging.INFO):
        convert_apart("reid", config, weights)
    assert "converting reid untrained for OpenVINO, once" in caplog.text
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
    monkeypatch.setitem(sys.modules, "motserve.reid.native_embedder", None)
    monkeypatch.setattr(subprocess, "run", None)
    convert_apart("reid", config, weights)
    assert build_embedder(config.reid, weights, tmp_path).backend == "openvino"


@pytest.mark.parametrize("change", [{"backend": "torch"}, {"device": "cuda"}])
def test_a_network_of_torch_needs_no_process(
    change: dict[str, Any], weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    convert_apart("reid", configure(tmp_path, **change), weights)


def test_what_the_process_says_is_in_the_log(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversion, "_PROGRAM", "print('it runs on PyTorch')")
    convert_apart("reid", configure(tmp_path), weights)
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.WARNING, "it runs on PyTorch")]


def test_a_process_that_fails_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    convert_apart("reid", configure(tmp_path), Weights("gone", tmp_path / "gone.safetensors", "5e88", ""))
    assert "the process that converts gone failed: motserve.errors.WeightsUnavailable" in caplog.text


def test_a_process_that_hangs_is_given_up(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversion, "_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(conversion, "_LIMIT_S", 0.1)
    convert_apart("reid", configure(tmp_path), weights)
    assert "the process that converts untrained failed" in caplog.text
    assert "timed out" in caplog.text
