from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
import ray
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from motserve.config import MlflowConfig, load_config
from motserve.config.loading.yaml_files import layer_settings, read_settings
from motserve.detection import build_detector
from motserve.errors import InvalidConfig, InvalidData, MotserveError, NotFound, WeightsUnavailable
from motserve.lab.evaluation.yolo_data import read_yolo
from motserve.models.libraries import import_ultralytics
from motserve.models.registry import Registry
from motserve.models.weights import resolve_weights
from training.detector import command as detector
from training.detector.command import make_job
from training.detector.config import DetectorTraining
from training.detector.train import Step, train_detector
from training.job import MODEL, Outcome, run_job
from training.progress import quiet
from training.rendered import command as rendered
from training.rendered.command import write_dataset
from training.rendered.config import PictureConfig, RenderedConfig, RenderedPictures
from training.run_log import RunLog
from training.worker import FolderExchange, Worker

pytestmark = pytest.mark.early

CONFIGS = Path(__file__).parents[2] / "configs" / "training"
NAME = "tiny_detector"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rendered training pictures and six for validation."""
    pictures = PictureConfig(longer_side=128, max_people=3, empty=0.0, min_height=0.3)
    settings = RenderedPictures(pictures=pictures, train_pictures=12, validation_pictures=6)
    return write_dataset(settings, 5, tmp_path_factory.mktemp("rendered") / "set")


def tiny(data: Path, store: MlflowConfig, **changes: Any) -> DetectorTraining:
    """Return settings for three epochs of a small network on small pictures."""
    where = Path(store.tracking_uri.removeprefix("sqlite:///")).parent
    tree = {
        "name": "tiny",
        "data": data,
        "architecture": "yolov8n",
        "init": "scratch",
        "image_size": 64,
        "epochs": 3,
        "plots": False,
        "batch_size": 4,
        "nominal_batch": 4,
        "optimizer": "AdamW",
        "learning_rate": 1e-3,
        "compute": {"workers": 0, "storage": str(where / "storage")},
        "mlflow": store,
        "register_as": NAME,
    }
    return DetectorTraining(**{**tree, **changes})


def run(settings: DetectorTraining, observe: Any = None, said: list[str] | None = None) -> Outcome:
    job = replace(make_job(settings), train=partial(train_detector, observe=observe))
    return run_job(job, say=quiet if said is None else said.append)


def history(store: MlflowConfig, run_id: str, metric: str) -> list[int]:
    return [point.step for point in MlflowClient(store.tracking_uri).get_metric_history(run_id, metric)]


# --- in one process ---------------------------------------------------------------------------------------------------


class FinishedJob(NamedTuple):
    store: MlflowConfig
    outcome: Outcome
    said: list[str]


@pytest.fixture(scope="module")
def finished(data: Path, mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedJob:
    """A job that is done; its settings hold a password."""
    folder = tmp_path_factory.mktemp("finished")
    path = shutil.copy(mlflow_database, folder / "mlflow.db")
    store = MlflowConfig(tracking_uri=f"sqlite:///{path}", artifact_dir=str(folder / "artifacts"))
    at_a_server = store.model_copy(update={"experiment": "http://user:secret@host/experiment"})
    said: list[str] = []
    return FinishedJob(store, run(tiny(data, at_a_server, evaluate_every=2, plots=True), said=said), said)


def test_a_job_writes_model_run_and_pictures(finished: FinishedJob) -> None:
    outcome = finished.outcome
    client = MlflowClient(finished.store.tracking_uri)
    logged = client.get_run(outcome.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.params["image_size"] == "64"
    assert logged.data.params["compute.workers"] == "0"
    assert logged.data.tags["job"] == "tiny"
    assert logged.data.tags["registered"] == outcome.version == f"models:/{NAME}/1"
    assert len(logged.data.tags["data.data.sha256"]) == 64
    assert "motserve.commit" in logged.data.tags
    assert float(logged.data.tags["duration_s"]) > 0
    for metric in ("loss/box", "loss/cls", "loss/dfl", "learning_rate", "images_per_s"):
        assert history(finished.store, outcome.run_id, metric) == [1, 2, 3]
    assert history(finished.store, outcome.run_id, "mAP50") == [2, 3], "each second, and the last"
    kept = {file.path for file in client.list_artifacts(outcome.run_id)}
    assert kept == {MODEL, "pictures", "results.csv", "settings.yaml"}
    pictures = {Path(file.path).name for file in client.list_artifacts(outcome.run_id, "pictures")}
    assert {"confusion_matrix.png", "BoxPR_curve.png", "results.png", "labels.jpg"} <= pictures
    version = Registry(finished.store).version(NAME, 1)
    assert (version.role, version.architecture, version.run_id) == ("detector", "yolov8n", outcome.run_id)
    (scores,) = version.scores.values()
    assert scores == outcome.scores[0]
    assert logged.data.metrics["best/mAP50"] == pytest.approx(scores.metrics["mAP50"])


def test_a_job_says_how_far_it_is(finished: FinishedJob, data: Path) -> None:
    start, first, second, third, scores, end = finished.said
    assert start == (
        f"tiny: 12 pictures of {data} and 6 for validation, yolov8n from random weights, 3 epochs at 64 pixels, "
        "this process on the CPU"
    )
    assert re.fullmatch(r"epoch 1/3: loss [\d.]+, \d+ s left", first)
    assert re.fullmatch(r"epoch 2/3: loss [\d.]+, mAP50-95 [\d.]+, \d+ s left", second)
    assert re.fullmatch(r"epoch 3/3: loss [\d.]+, mAP50-95 [\d.]+", third)
    assert scores.startswith("scores on set val, 6 pictures: mAP50 ")
    best = re.fullmatch(r"done in \d+ s: the best epoch is (\d), with mAP50-95 ([\d.]+) in validation; (.*)", end)
    assert best is not None
    assert f"mAP50-95 {best[2]}" in (second, third)[int(best[1]) - 2]
    weights = re.fullmatch(rf"weights in (/.*)/detector.safetensors; registered as {finished.outcome.version}", best[3])
    assert weights is not None
    assert Path(weights[1], "detector.safetensors").is_file()


def test_the_run_contains_no_password(finished: FinishedJob, tmp_path: Path) -> None:
    client = MlflowClient(finished.store.tracking_uri)
    run_id = finished.outcome.run_id
    assert "secret" not in str(client.get_run(run_id).data.params)
    stored = Path(client.download_artifacts(run_id, "settings.yaml", str(tmp_path)))
    assert "host/experiment" in stored.read_text()
    assert "secret" not in stored.read_text()


def test_a_service_can_load_the_result(finished: FinishedJob, tmp_path: Path) -> None:
    served = {"weights": [finished.outcome.version], "confidence": 0.0}
    config = load_config([{"detector": served, "mlflow": finished.store.model_dump(), "cache_dir": str(tmp_path)}])
    detector = build_detector(config.detector, resolve_weights("detector", config))
    assert detector.class_names == {0: "person"}
    (detections,) = detector.detect([np.full((96, 128, 3), 127, np.uint8)])
    assert np.isfinite(detections.boxes).all()


def test_one_process_trains_the_same_weights_as_ultralytics(
    data: Path, mlflow_store: MlflowConfig, tmp_path: Path
) -> None:
    settings = make_job(tiny(data, mlflow_store)).settings
    log = RunLog.create(mlflow_store, "parity", {}, {}, "")
    worker = Worker(0, 1, torch.device("cpu"), tmp_path / "own", FolderExchange(tmp_path / "last"), log)
    train_detector(worker, settings)
    import_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    from training.detector.train import ultralytics_settings

    stock = DetectionTrainer(overrides=ultralytics_settings(worker, settings, tmp_path / "stock"))
    stock.train()
    ours, theirs = (
        np.genfromtxt(file, delimiter=",", skip_header=1) for file in (tmp_path / "last" / "results.csv", stock.csv)
    )
    timeless = np.arange(ours.shape[1]) != 1
    np.testing.assert_allclose(ours[:, timeless], theirs[:, timeless], rtol=1e-4, atol=1e-5)


class Interruption(Exception):
    """A simulated loss of power."""


def interrupt(step: Step, at: int, count: list[int]) -> None:
    count[0] += 1
    if count[0] == at:
        raise Interruption


def test_an_interrupted_job_is_resumed(data: Path, mlflow_store: MlflowConfig) -> None:
    settings = tiny(data, mlflow_store)
    with pytest.raises(Interruption):
        run(settings, partial(interrupt, at=5, count=[0]))  # in the second epoch, of three steps each
    with pytest.raises(InvalidConfig, match="started with other settings"):
        run(tiny(data, mlflow_store, learning_rate=0.5))
    (stopped,) = MlflowClient(mlflow_store.tracking_uri).search_runs(["1"])
    assert stopped.info.status == "FAILED", "a job that is refused does not run"
    steps = [0]
    said: list[str] = []
    outcome = run(settings, partial(interrupt, at=0, count=steps), said)
    assert steps == [6], "the second epoch, from its start, and the third"
    assert said[0] == "tiny is resumed"
    assert said[2] == "resumed after epoch 1"
    assert said[3].startswith("epoch 2/3: ")
    assert history(mlflow_store, outcome.run_id, "loss/box") == [1, 2, 3]
    runs = MlflowClient(mlflow_store.tracking_uri).search_runs(["1"])
    assert [(one.info.run_id, one.info.status) for one in runs] == [(outcome.run_id, "FINISHED")]
    with pytest.raises(InvalidConfig, match="no interrupted job tiny"):
        run(settings)


def test_an_unreachable_store_does_not_hide_the_first_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    log = RunLog(MlflowConfig(tracking_uri="http://127.0.0.1:9"), "run")
    with pytest.raises(MotserveError, match="refuses the metrics"), log.ending():
        log.metrics(1, {"loss": 1.0})


def test_a_job_without_its_checkpoints_starts_again(data: Path, mlflow_store: MlflowConfig) -> None:
    settings = tiny(data, mlflow_store)
    with pytest.raises(Interruption):
        run(settings, partial(interrupt, at=5, count=[0]))
    shutil.rmtree(settings.compute.storage)
    outcome = run(settings)
    assert history(mlflow_store, outcome.run_id, "loss/box") == [1, 2, 3]
    runs = MlflowClient(mlflow_store.tracking_uri).search_runs(["1"])
    assert sorted(one.info.status for one in runs) == ["FINISHED", "KILLED"]


def test_a_job_without_its_result_only_writes_the_result(
    data: Path, mlflow_store: MlflowConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(data, mlflow_store, epochs=1)

    def fail(*_: Any, **__: Any) -> None:
        raise Interruption

    with monkeypatch.context() as patched:
        patched.setattr("training.detector.train.measure_detector", fail)
        with pytest.raises(Interruption):
            run(settings)
    steps = [0]
    assert run(settings, partial(interrupt, at=0, count=steps)).version == f"models:/{NAME}/1"
    assert steps == [0], "nothing is learned again"


def test_training_starts_from_given_weights(data: Path, mlflow_store: MlflowConfig, untrained_detector: Path) -> None:
    states: list[torch.Tensor] = []

    def remember(step: Step) -> None:
        states.append(step.network.state_dict()["model.0.conv.weight"].clone())

    run(tiny(data, mlflow_store, init=str(untrained_detector), epochs=1, learning_rate=1e-9, warmup_epochs=0), remember)
    torch.testing.assert_close(states[-1], load_file(untrained_detector)["model.0.conv.weight"], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def of_many_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLOv8n of eighty classes as published by Ultralytics; its class branch is wider."""
    ultralytics = import_ultralytics()
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("many") / "many.pt"
    model = ultralytics.YOLO("yolov8n.yaml", task="detect", verbose=False)
    model.model.names = {index: "person" if index == 7 else f"class {index}" for index in range(80)}
    model.save(path)
    return path


def test_a_network_of_many_classes_is_reduced_to_people(
    data: Path, mlflow_store: MlflowConfig, of_many_classes: Path, tmp_path: Path
) -> None:
    outcome = run(tiny(data, mlflow_store, init=str(of_many_classes), epochs=1, learning_rate=1e-9, warmup_epochs=0))
    served = {"weights": [outcome.version]}
    config = load_config([{"detector": served, "mlflow": mlflow_store.model_dump(), "cache_dir": str(tmp_path)}])
    detector = build_detector(config.detector, resolve_weights("detector", config))
    assert detector.class_names == {0: "person"}
    original = import_ultralytics().YOLO(of_many_classes).model.state_dict()
    learned = load_file(resolve_weights("detector", config).path)
    for name in ("model.22.cv3.0.0.conv.weight", "model.0.conv.weight"):
        torch.testing.assert_close(learned[name].float(), original[name], atol=1e-3, rtol=1e-2)
    row = original["model.22.cv3.0.2.weight"][7:8]
    torch.testing.assert_close(learned["model.22.cv3.0.2.weight"].float(), row, atol=1e-3, rtol=1e-2)


# --- invalid input --------------------------------------------------------------------------------------------------


def test_wrong_input_is_refused_before_training(data: Path, mlflow_store: MlflowConfig, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no data set"):
        make_job(tiny(tmp_path / "data.yaml", mlflow_store))
    with pytest.raises(InvalidData, match="`test`"):
        make_job(tiny(data, mlflow_store, test="test"))
    with pytest.raises(WeightsUnavailable, match="do not exist"):
        make_job(tiny(data, mlflow_store, init="nowhere/yolo.pt"))
    with pytest.raises(WeightsUnavailable, match="no known publisher"):
        make_job(tiny(data, mlflow_store, init="nothing.safetensors"))
    with pytest.raises(InvalidConfig, match="has no network yolov8q"):
        make_job(tiny(data, mlflow_store, architecture="yolov8q"))
    broken = shutil.copytree(data.parent, tmp_path / "broken")
    (broken / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: person}\n")
    next((broken / "labels" / "val").glob("*.txt")).write_text("0 0.5 0.5 2 2\n")
    with pytest.raises(InvalidData, match="line 1"):
        make_job(tiny(broken / "data.yaml", mlflow_store))
    assert MlflowClient(mlflow_store.tracking_uri).search_runs(["1"]) == [], "and nothing is recorded"


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "fp16"},
        {"batch_size": 5, "compute": {"workers": 2}},
        {"compute": {"workers": 0, "gpus_per_worker": 1}},
        {"compute": {"workers": 0, "storage": "s3://bucket/jobs"}},
        {"name": "../up"},
        {"image_size": 100},
        {"epoch": 3},
    ],
)
def test_inconsistent_settings_are_refused(data: Path, mlflow_store: MlflowConfig, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        tiny(data, mlflow_store, **changes)


def test_pictures_are_rendered_by_a_command(tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text("train_pictures: 2\nvalidation_pictures: 1\npictures: {longer_side: 128, max_people: 2}\n")
    assert rendered.main(["--config", str(file), "--output", str(tmp_path / "set")]) == 0
    assert len(read_yolo(tmp_path / "set" / "data.yaml", "train").images) == 2
    file.write_text("pictures: {people: 2}\n")
    assert rendered.main(["--config", str(file), "--output", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()
    assert read_settings(CONFIGS / "rendered.yaml", RenderedConfig).train_pictures > 0


def test_an_unreachable_bucket_is_an_error(data: Path, mlflow_store: MlflowConfig) -> None:
    with pytest.raises(MotserveError, match=r"compute\.storage cannot be accessed"):
        run(tiny(data, mlflow_store, compute={"workers": 1, "storage": "nothing://bucket"}))


def test_the_command_prints_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("name: a\ndata: nowhere/data.yaml\nunknown: 1\n")
    assert detector.main(["--config", str(file)]) == 2
    assert "unknown" in capsys.readouterr().err


# --- in several workers -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    # workers cannot import a module of tests
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def record_step(step: Step, folder: Path, marker: Path) -> None:
    """Record the state of a worker after a step; the second worker dies once in the middle of the second epoch."""
    if (step.worker.rank, step.epoch, step.number) == (1, 2, 2) and marker.exists():
        marker.unlink()
        os._exit(1)
    digest = hashlib.sha256()
    for parameter in step.network.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    state = {"parameters": digest.hexdigest(), "loss": step.loss, "process": os.getpid()}
    (folder / f"{step.epoch}.{step.number}-{step.worker.rank}.json").write_bytes(orjson.dumps(state))


@pytest.mark.workers
@pytest.mark.parametrize(("precision", "deadly"), [("fp32", True), ("bf16", False)])
def test_two_workers_have_equal_networks_and_one_may_die(
    cluster: None, data: Path, mlflow_store: MlflowConfig, tmp_path: Path, precision: str, deadly: bool
) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    compute = {"workers": 2, "storage": str(tmp_path / "storage")}
    settings = tiny(data, mlflow_store, compute=compute, precision=precision, evaluate_every=2, patience=2)
    marker = tmp_path / "die"
    if deadly:
        marker.touch()
    said: list[str] = []
    outcome = run(settings, partial(record_step, folder=folder, marker=marker), said)
    assert not marker.exists()
    assert [line.split(":")[0] for line in said if line.startswith("epoch")][-2:] == ["epoch 2/3", "epoch 3/3"]
    # the other worker may be the first to notice
    losses = [line for line in said if line.endswith("; all workers start again from the last checkpoint")]
    assert len(losses) == deadly
    assert said.count("2 workers train on the CPU") == 1 + deadly
    steps: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.iterdir()):
        steps.setdefault(file.stem.partition("-")[0], []).append(orjson.loads(file.read_bytes()))
    assert list(steps) == [f"{epoch}.{number}" for epoch in (1, 2, 3) for number in (1, 2, 3)]
    for first, second in steps.values():
        assert first["process"] != second["process"]
        assert first["loss"] != second["loss"], "each sees pictures of its own"
        assert first["parameters"] == second["parameters"]
    assert len({first["parameters"] for first, _ in steps.values()}) == len(steps), "every step changes them"
    for metric in ("loss/box", "images_per_s"):
        assert history(mlflow_store, outcome.run_id, metric) == [1, 2, 3]
    assert MlflowClient(mlflow_store.tracking_uri).get_run(outcome.run_id).info.status == "FINISHED"
    assert Registry(mlflow_store).version(NAME, 1).run_id == outcome.run_id


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gpus_train_in_every_precision(
    data: Path, mlflow_store: MlflowConfig, tmp_path: Path, precision: str
) -> None:  # fmt: skip
    compute = {"workers": 1, "gpus_per_worker": 1}
    settings = make_job(tiny(data, mlflow_store, compute=compute, precision=precision)).settings
    log = RunLog.create(mlflow_store, "gpu", {}, {}, "")
    worker = Worker(0, 1, torch.device("cuda:0"), tmp_path / "own", FolderExchange(tmp_path / "last"), log)
    losses: list[float] = []
    train_detector(worker, settings, lambda step: losses.append(step.loss))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


# --- the examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("detector*.yaml")))
def test_the_shipped_settings_are_valid(name: str) -> None:
    layers = [CONFIGS / "detector.yaml", *([] if name == "detector.yaml" else [CONFIGS / name])]
    assert layer_settings(layers, {}, DetectorTraining).name
