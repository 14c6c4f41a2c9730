"""The life cycle of a model: trained, registered, promoted, served without a restart, replaced, rolled back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import yaml
from ray import serve
from service_checks import free_port, write_clip
from typer.testing import CliRunner, Result

from motserve.cli import app
from motserve.config import MlflowConfig
from motserve.serving.app import build
from motserve.serving.arguments import ServeArgs
from training.detector import command as detector
from training.rendered.command import write_dataset
from training.rendered.config import PictureConfig, RenderedPictures

NAME = "people"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("way")


@pytest.fixture(scope="module")
def store(mlflow_database: Path, folder: Path) -> MlflowConfig:
    path = folder / "mlflow.db"
    path.write_bytes(mlflow_database.read_bytes())
    return MlflowConfig(tracking_uri=f"sqlite:///{path}", artifact_dir=str(folder / "artifacts"))


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    pictures = PictureConfig(longer_side=256, max_people=4, empty=0.0, min_height=0.3)
    settings = RenderedPictures(pictures=pictures, train_pictures=16, validation_pictures=12)
    return write_dataset(settings, 11, folder / "data")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    return write_clip(folder / "clip.mp4", 2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False)
    yield
    serve.shutdown()
    ray.shutdown()


@pytest.fixture
def train(cluster: None, data: Path, store: MlflowConfig, folder: Path) -> Any:
    """Run `python -m training.detector` for one epoch."""

    def run(name: str, **changes: Any) -> None:
        tree = {
            "name": name,
            "data": str(data),
            "architecture": "yolov8n",
            "image_size": 256,
            "epochs": 1,
            "batch_size": 8,
            "nominal_batch": 8,
            "optimizer": "AdamW",
            "compute": {"workers": 0, "storage": str(folder / "storage")},
            "mlflow": store.model_dump(mode="json"),
            "register_as": NAME,
            **changes,
        }
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")
        assert detector.main(["--config", str(file)]) == 0

    return run


@pytest.fixture
def models(store: MlflowConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `motserve models`."""
    monkeypatch.setenv("MOTSERVE_MLFLOW__TRACKING_URI", store.tracking_uri)

    def run(*arguments: str | int) -> Result:
        return CliRunner().invoke(app, ["models", *map(str, arguments)])

    return run


def start_service(store: MlflowConfig, folder: Path) -> str:
    port = free_port()
    settings = {
        "detector": {"weights": [f"models:/{NAME}@production"], "image_size": 320, "confidence": 0.2},
        "reid": {"weights": "bundled"},
        "mlflow": store.model_dump(mode="json"),
        "cache_dir": str(folder / "cache"),
        "serving": {"storage_dir": str(folder / "service"), "max_active_videos": 4},
    }
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(ServeArgs(settings=settings)), name="motserve", route_prefix="/")
    return f"http://127.0.0.1:{port}"


class PollingClient(threading.Thread):
    """Posts one video after the other and polls each until it is done."""

    def __init__(self, url: str, clip: Path) -> None:
        super().__init__()
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.leave = threading.Event()
        self._url = url
        self._clip = clip

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as client:
            while not self.leave.is_set():
                try:
                    self.answers.append(track(client, self._clip))
                except Exception as error:
                    self.failures.append(repr(error))


def track(client: httpx.Client, clip: Path) -> dict[str, Any]:
    """Post a video, wait for its end, and return its tracks and their metadata."""
    posted = client.post("/v1/videos", files={"file": (clip.name, clip.read_bytes())})
    assert posted.status_code == 202, posted.text
    link = f"/v1/videos/{posted.json()['id']}"
    end = time.monotonic() + 120
    while time.monotonic() < end:
        state = client.get(link)
        assert state.status_code == 200, state.text
        if state.json()["status"] in ("done", "failed"):
            assert state.json()["status"] == "done", state.text
            tracks = client.get(f"{link}/tracks")
            assert tracks.status_code == 200, tracks.text
            return {**tracks.json(), "state": state.json()}
        time.sleep(0.1)
    raise AssertionError(f"{link} was not done within two minutes")


def people_in(answer: dict[str, Any]) -> int:
    return sum(len(frame["tracks"]) for frame in answer["frames"])


@pytest.mark.workers
def test_a_model_is_promoted_served_and_rolled_back(
    train: Any, models: Any, store: MlflowConfig, data: Path, clip: Path, folder: Path
) -> None:  # fmt: skip
    train("weak", init="scratch")
    assert models("promote", NAME, 1, "--to", "production").exit_code == 0
    url = start_service(store, folder)
    poster = PollingClient(url, clip)
    poster.start()
    try:
        with httpx.Client(base_url=url, timeout=120) as client:
            assert client.get("/readyz").json()["models"]["detector"]["name"] == f"{NAME}/1"
            first = track(client, clip)
            assert first["models"]["detector"]["name"] == f"{NAME}/1"

            compute = {"workers": 2, "storage": str(folder / "storage")}
            train("good", init="bundled", learning_rate=1e-6, compute=compute)
            promoted = models("promote", NAME, 2, "--to", "production")
            assert promoted.exit_code == 0, promoted.output
            assert "not below" in promoted.stdout

            assert track(client, clip)["models"]["detector"]["name"] == f"{NAME}/1", (
                "the service switched without a reload"
            )
            reloaded = client.post("/v1/admin/reload")
            assert reloaded.status_code == 200, reloaded.text
            assert reloaded.json()["detector"]["changed"]
            second = track(client, clip)
            assert second["models"]["detector"]["name"] == f"{NAME}/2"
            assert second["models"]["detector"]["sha256"] != first["models"]["detector"]["sha256"]
            assert people_in(second) > max(20, 2 * people_in(first))
            assert client.get("/readyz").json()["models"]["detector"]["name"] == f"{NAME}/2"

            train("weak-again", init="scratch")
            refused = models("promote", NAME, 3, "--to", "production")
            assert refused.exit_code == 5
            assert "below" in refused.stdout
            assert not client.post("/v1/admin/reload").json()["detector"]["changed"]

            assert models("rollback", NAME).exit_code == 0
            assert client.post("/v1/admin/reload").json()["detector"]["now"]["name"] == f"{NAME}/1"
            assert track(client, clip)["models"]["detector"]["name"] == f"{NAME}/1"
    finally:
        poster.leave.set()
        poster.join(180)
    assert not poster.failures
    served = [answer["models"]["detector"]["name"] for answer in poster.answers]
    assert set(served) == {f"{NAME}/1", f"{NAME}/2"}
    assert all(answer["models"]["switches"] == [] for answer in poster.answers)
    by_second = [answer for answer in poster.answers if answer["models"]["detector"]["name"] == f"{NAME}/2"]
    assert {people_in(answer) for answer in by_second} == {people_in(second)}, (
        "one model from the first frame to the last"
    )
