"""The backend of a network: converted once, compared with the original, and PyTorch where OpenVINO cannot run it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motserve.config import DetectorConfig
from motserve.errors import InvalidConfig
from motserve.models import backend, openvino_conversion
from motserve.models.backend import (
    Convertible,
    choose_network,
    conversion_key,
    describe_backend,
    is_refused,
    runs_on_openvino,
)
from motserve.models.converted_networks import ConvertedNetworks, Graph
from motserve.models.libraries import import_openvino
from motserve.models.sample_pictures import sample_pictures
from motserve.models.weights import Weights

WEIGHTS = Weights("a.pt", Path("a.pt"), "5e88", "")


class Blur(torch.nn.Module):
    """A convolution of the pictures, and of another size where the picture is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 2, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.layer(pictures.permute(0, 3, 1, 2).float() / 255))


def far(expected: np.ndarray, output: np.ndarray) -> str:
    difference = float(np.abs(expected - output).max())
    return "" if difference < 1e-5 else f"off by {difference}"


NETWORK = Convertible("detector", WEIGHTS, {}, Blur, True, ((1, 24, 40), (2, 16, 16)), {"stride": 32}, far)


def fail(*_: Any) -> Any:
    raise AssertionError("it is converted again")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the network."""
    path = tmp_path_factory.mktemp("cache")
    assert choose_network("auto", "cpu", NETWORK, path) is not None
    return path


def stored_files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "openvino").iterdir())


def test_a_converted_network_gives_the_same_output_for_any_size(folder: Path) -> None:
    assert stored_files(folder) == [".network"]
    network = choose_network("openvino", "cpu", replace(NETWORK, build=fail), folder)
    assert network is not None
    assert network.facts == {"stride": 32}
    for count, height, width in ((1, 24, 40), (3, 32, 32), (2, 9, 64)):
        pictures = sample_pictures(count, height, width)
        pictures.flags.writeable = False
        output = network(pictures)
        assert far(Blur()(torch.from_numpy(pictures.copy())).detach().numpy(), output) == ""
        before = output.copy()
        network(255 - pictures)
        np.testing.assert_array_equal(output, before)


@pytest.mark.parametrize("damage", [b"", b"PK nothing"])
def test_a_damaged_file_is_made_again(folder: Path, damage: bytes) -> None:
    (path,) = (folder / "openvino").iterdir()
    path.write_bytes(damage)
    assert choose_network("auto", "cpu", NETWORK, folder) is not None
    assert choose_network("auto", "cpu", replace(NETWORK, build=fail), folder) is not None


def test_a_file_that_openvino_cannot_read_is_made_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = conversion_key("detector", WEIGHTS, {})
    stored = ConvertedNetworks(folder / "openvino")
    stored.store(key, Graph(b"<net>", b"", {}))
    assert choose_network("auto", "cpu", NETWORK, folder) is not None
    assert "cannot be read and is made again" in caplog.text
    assert choose_network("auto", "cpu", replace(NETWORK, build=fail), folder) is not None


def differing(*_: Any) -> str:
    return "boxes differ by 9 pixels"


def unknown_layer(*_: Any) -> Any:
    raise RuntimeError("no such layer")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"difference": differing}, "boxes differ by 9 pixels on pictures of 40x24"),
        ({"build": unknown_layer}, "RuntimeError: no such layer"),
    ],
)
def test_a_network_that_openvino_cannot_run_stays_on_torch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    network = replace(NETWORK, **changes)
    with pytest.raises(InvalidConfig, match=rf"detector\.backend openvino: .* a\.pt: {reason}; set .*auto or torch"):
        choose_network("openvino", "cpu", network, None)
    with caplog.at_level(logging.INFO):
        assert choose_network("auto", "cpu", network, tmp_path) is None
        assert "converting detector a.pt for OpenVINO, once" in caplog.text
        assert f"detector a.pt runs on PyTorch: OpenVINO cannot run it: {reason}" in caplog.text
        caplog.clear()
        assert choose_network("auto", "cpu", replace(network, build=fail), tmp_path) is None
    (record,) = caplog.records
    assert (record.levelno, vars(record)["role"], vars(record)["weights"]) == (logging.INFO, "detector", "a.pt")
    assert reason in record.getMessage()
    assert is_refused("detector", WEIGHTS, {}, tmp_path)
    assert stored_files(tmp_path) == [".refused"]


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("not enough memory: 4 GB"), MemoryError()])
def test_a_failure_that_may_go_away_is_not_stored(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(openvino_conversion, "convert", full)
        assert choose_network("auto", "cpu", NETWORK, tmp_path) is None
    assert not is_refused("detector", WEIGHTS, {}, tmp_path)


def test_a_full_folder_of_temporary_files_is_an_error_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(import_openvino(), "save_model", full)
    with pytest.raises(OSError, match=r"cannot be written to .*iostream error"):
        openvino_conversion.convert(Blur(), (1, 24, 40), True, {})


def test_where_nothing_can_be_stored_torch_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ConvertedNetworks, "is_writable", lambda _: False)
    assert choose_network("auto", "cpu", replace(NETWORK, build=fail), tmp_path) is None
    assert "runs on PyTorch" in caplog.text
    config = DetectorConfig(device="cpu")
    assert not runs_on_openvino("detector", config, WEIGHTS, {}, tmp_path)
    monkeypatch.undo()
    assert runs_on_openvino("detector", config, WEIGHTS, {}, tmp_path)


@pytest.mark.parametrize(
    ("driver", "visible", "torch_version", "expected"),
    [
        (False, None, "2.14.1", True),
        (True, None, "2.14.1", False),
        (True, "0,1", "2.14.1", False),
        (True, "", "2.14.1", True),
        (True, "-1", "2.14.1", True),
        (True, None, "2.14.1+cpu", True),
    ],
)
def test_a_machine_that_may_have_a_gpu_uses_torch(
    driver: bool,
    visible: str | None,
    torch_version: str,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "_DRIVERS", (tmp_path / "none", tmp_path if driver else tmp_path / "none"))
    monkeypatch.setattr(backend, "library_version", lambda _: torch_version)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert runs_on_openvino("detector", DetectorConfig(), WEIGHTS, {}, tmp_path) == expected


def test_where_torch_runs_nothing_is_converted(tmp_path: Path) -> None:
    network = replace(NETWORK, build=fail)
    assert choose_network("torch", "cpu", network, tmp_path) is None
    assert choose_network("auto", "cuda:0", network, tmp_path) is None
    assert choose_network("auto", "mps", network, tmp_path) is None
    assert choose_network("auto", "cpu", network, None) is None
    with pytest.raises(InvalidConfig, match=r"on the CPU, and detector\.device is cuda:0; set detector\.device=cpu"):
        choose_network("openvino", "cuda:0", network, tmp_path)


def test_the_key_of_a_network_has_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        conversion_key("detector", WEIGHTS, {}),
        conversion_key("reid", WEIGHTS, {}),
        conversion_key("detector", replace(WEIGHTS, sha256="other"), {}),
        conversion_key("detector", WEIGHTS, {"size": [64, 32]}),
    ]
    monkeypatch.setattr(backend, "library_version", lambda name: "next" if name == "openvino" else "1")
    keys.append(conversion_key("detector", WEIGHTS, {}))
    monkeypatch.setattr(backend, "processor", lambda: "another one")
    keys.append(conversion_key("detector", WEIGHTS, {}))
    assert len({repr(key) for key in keys}) == len(keys)
    assert conversion_key("detector", replace(WEIGHTS, name="b.pt"), {}) == keys[-1]


@pytest.mark.parametrize(("threads", "expected"), [("1", 1), ("4", None), ("0", None), ("two", None), ("", None)])
def test_openvino_has_the_threads_of_the_environment(
    threads: str, expected: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    network = choose_network("auto", "cpu", NETWORK, folder)
    assert network is not None
    assert network.threads == expected


def test_signals_are_handled_after_another_thread_freed_a_network(folder: Path) -> None:
    key = conversion_key("detector", WEIGHTS, {})
    script = f"""
import faulthandler, gc, os, signal, threading
from pathlib import Path
from motserve.models.converted_networks import ConvertedNetworks
from motserve.models.openvino_network import OpenVinoNetwork
faulthandler.enable()
networks = [OpenVinoNetwork(ConvertedNetworks(Path({str(folder / "openvino")!r})).load({key!r}))]
def free():
    networks.clear()
    gc.collect()
thread = threading.Thread(target=free)
thread.start()
thread.join()
reused = [bytearray(os.urandom(20000)) for _ in range(2000)]
handled = []
signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
for _ in range(20):
    os.kill(os.getpid(), signal.SIGUSR1)
assert len(handled) == 20
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_openvino_is_loaded_late_and_sends_no_usage_data() -> None:
    script = "import motserve.models.backend, sys; sys.exit('torch' in sys.modules or 'openvino' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    import_openvino()
    assert sys.modules["openvino_telemetry"] is None


def test_the_description_names_the_version() -> None:
    assert describe_backend("torch") == {"backend": f"torch {backend.library_version('torch')}"}
    assert describe_backend("") == {"backend": ""}


def test_sample_pictures_are_the_same_in_every_call() -> None:
    pictures = sample_pictures(2, 48, 64)
    assert pictures.shape == (2, 48, 64, 3)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, sample_pictures(2, 48, 64))
    assert (pictures[0] != pictures[1]).any()
    assert pictures.std() > 20
