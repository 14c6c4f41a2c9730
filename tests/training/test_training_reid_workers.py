from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import ray
from mlflow import MlflowClient
from reid_training_data import tiny_settings, write_market

from training.job import MODEL, Job, Outcome, run_job
from training.reid.command import make_job
from training.reid.config import ReidTrainingConfig
from training.reid.train import Step, train_reid


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    # workers cannot import a module of tests
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("data") / "market")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    shutil.copy(mlflow_database, folder / "mlflow.db")
    return folder


def record_step(step: Step, folder: Path, marker: Path, checkpoints: Path) -> None:
    """Record the state of a worker after a step; the second worker dies once in the middle of an epoch."""
    if (step.worker.rank, step.epoch, step.number) == (1, 3, 2) and marker.exists():
        end = time.monotonic() + 60
        while not checkpoints.exists() and time.monotonic() < end:  # Ray may lose the latest report
            time.sleep(0.1)
        marker.unlink()
        os._exit(1)
    digest = hashlib.sha256()
    for parameter in step.learner.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    state = {"parameters": digest.hexdigest(), "loss": float(step.losses.total), "process": os.getpid()}
    file = folder / f"{step.epoch}-{step.number}-{step.worker.rank}.json"
    file.write_bytes(orjson.dumps(state))


def run(settings: ReidTrainingConfig, observe: Any) -> Outcome:
    job = make_job(settings)
    return run_job(Job(job.role, job.settings, partial(train_reid, observe=observe), job.data))


def steps_of(folder: Path) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Return the states of the two workers, rank 0 first, by epoch and step."""
    states: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for file in sorted(folder.iterdir()):
        epoch, number, _ = map(int, file.stem.split("-"))
        states.setdefault((epoch, number), []).append(orjson.loads(file.read_bytes()))
    return states


def epochs_of(settings: ReidTrainingConfig, run_id: str, metric: str) -> list[int]:
    client = MlflowClient(settings.mlflow.tracking_uri)
    return [point.step for point in client.get_metric_history(run_id, metric)]


@pytest.mark.workers
def test_workers_have_equal_networks_survive_a_loss_and_end_together(
    cluster: None, market: Path, runs: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(
        market,
        runs,
        "shared",
        compute={"workers": 2},
        losses={"centre_weight": 5e-4},
        schedule={"epochs": 1000},
        validation={"patience": 2},  # with two people the score is perfect after a few epochs
    )
    marker, folder = tmp_path / "die", tmp_path / "steps"
    checkpoints = runs / "training" / "shared" / "checkpoint_manager_snapshot.json"
    marker.touch()
    folder.mkdir()
    outcome = run(settings, partial(record_step, folder=folder, marker=marker, checkpoints=checkpoints))
    assert not marker.exists()
    steps = steps_of(folder)
    last = max(epoch for epoch, _ in steps)
    assert 3 <= last < 1000
    for first, second in steps.values():
        assert first["process"] != second["process"]
        assert first["loss"] != second["loss"], "each sees people of its own"
        assert first["parameters"] == second["parameters"]
    assert len({first["parameters"] for first, _ in steps.values()}) == len(steps), "every step changes them"
    assert steps[1, 1][1]["process"] != steps[last, 1][1]["process"], "the first epoch is not learned again"
    for metric in ("loss/total", "learning_rate", "validation/mAP"):
        assert epochs_of(settings, outcome.run_id, metric) == list(range(1, last + 1))
    client = MlflowClient(settings.mlflow.tracking_uri)
    assert client.get_run(outcome.run_id).info.status == "FINISHED"
    assert (runs / "artifacts" / outcome.run_id / "artifacts" / MODEL / "model.json").is_file()
