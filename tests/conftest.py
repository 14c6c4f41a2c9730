from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_checks import Motserve
from filelock import FileLock
from hypothesis import Phase, settings
from real_data import NO_DATA, real_data
from typer.testing import CliRunner

if TYPE_CHECKING:
    from motserve.config import MlflowConfig

pytest_plugins = ["known_skips", "pytester"]

# For `make mutate`: the same examples for every mutant, and no search for a smaller one that fails too.
settings.register_profile("mutation", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])


def pytest_configure(config: pytest.Config) -> None:
    """Where files run in parallel, the processes share the cores."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that no process waits for another one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape what is not valid Unicode, as in file names: a report with it cannot be sent to the main process."""
    return _escape_surrogates((yield))


def _escape_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escape_surrogates(key): _escape_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_escape_surrogates(item) for item in value)
    return value


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real videos, pictures and models."""
    folder = real_data()
    if folder is None:
        pytest.skip(NO_DATA)
    return folder


@pytest.fixture
def motserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Motserve:
    """The command line, run in an empty folder, with a cache of its own."""
    from motserve.cli import app

    for name in os.environ:
        if name.startswith("MOTSERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MOTSERVE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "150")  # wide enough that no message is broken
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    """Restore the logger, so that a test that sets up logging does not hide the logs of the next from `caplog`."""
    logger = logging.getLogger("motserve")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def untrained_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained YOLOv8n of one class that returns random boxes with high confidence."""
    import torch
    from safetensors.torch import save_file

    from motserve.models.libraries import import_ultralytics

    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model: Any = DetectionModel("yolov8n.yaml", nc=1, verbose=False)
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.5)
        torch.nn.init.constant_(branch[-1].bias, 1.0)
    path = tmp_path_factory.mktemp("detector") / "untrained.safetensors"
    metadata = {"architecture": "yolov8n", "names": json.dumps({0: "person"})}
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path, metadata)
    return path


@pytest.fixture(scope="session")
def untrained_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained embedder of 32 dimensions."""
    import torch
    from safetensors.torch import save_file

    from motserve.reid.network import EmbedderNetwork

    torch.manual_seed(0)
    network = EmbedderNetwork("mobilenet_v3_small", dimension=32)
    path = tmp_path_factory.mktemp("embedder") / "untrained.safetensors"
    save_file(network.state_dict(), path, {"backbone": "mobilenet_v3_small", "dimension": "32"})
    return path


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an empty MLflow store; creating one takes seconds."""
    from motserve.config import MlflowConfig
    from motserve.models.mlflow_store import connect

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all processes: one makes it, the others wait
    path = folder / "mlflow.db"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            new = path.with_suffix(".new")
            connect(MlflowConfig(tracking_uri=f"sqlite:///{new}")).search_experiments()
            new.rename(path)
    return path


@pytest.fixture
def mlflow_store(mlflow_database: Path, tmp_path: Path) -> MlflowConfig:
    """An empty MLflow store."""
    from motserve.config import MlflowConfig

    path = tmp_path / "mlflow.db"
    path.write_bytes(mlflow_database.read_bytes())
    return MlflowConfig(tracking_uri=f"sqlite:///{path}", artifact_dir=str(tmp_path / "artifacts"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of walking people; the file name contains Rich markup."""
    from motserve.config import VideoConfig
    from motserve.lab.scenes import SceneConfig, render
    from motserve.video import VideoWriter

    path = tmp_path_factory.mktemp("clip") / "clip[1].mp4"
    scene = SceneConfig(seed=5, width=192, height=112, rate_hz=6, duration_s=2)
    with VideoWriter(path, 192, 112, VideoConfig(), rate_hz=6) as writer:
        for number, frame in enumerate(render(scene)):
            writer.write(frame.frame.image, number / 6)
    return path


@cache
def _build_once(*arguments: Any) -> Any:
    from motserve.detection import build_detector

    return build_detector(*arguments)


def build_once(config: Any, weights: Any, folder: Any = None) -> Any:
    """Loading the network takes longer than tracking these clips with it."""
    return _build_once(config, weights)


@pytest.fixture
def untrained(
    untrained_detector: Path,
    untrained_embedder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Sequence[str]:
    """Settings for small untrained networks; the detector returns people everywhere, limited to a few."""
    monkeypatch.setattr("motserve.pipeline.local_models.build_detector", build_once)
    settings = {
        "cache_dir": tmp_path_factory.mktemp("cache"),
        "detector.weights": untrained_detector,
        "detector.image_size": 96,
        "detector.max_detections": 6,
        "detector.nms_iou": 0.1,
        "detector.device": "cpu",
        "detector.backend": "torch",  # to convert a network takes longer than most tests
        "reid.weights": untrained_embedder,
        "reid.device": "cpu",
        "reid.backend": "torch",
        "reid.policy": "always",
    }
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
