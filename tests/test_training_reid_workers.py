from __future__ import annotations

import hashlib
import os
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
from training.reid import make_job
from training.reid_config import ReidTrainingConfig
from training.reid_train import Step, train_reid


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("data") / "market")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def note(step: Step, folder: Path) -> None:
    """Write down what a worker holds after a step."""
    digest = hashlib.sha256()
    for parameter in step.learner.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    seen = {"parameters": digest.hexdigest(), "loss": float(step.losses.total), "pid": os.getpid()}
    file = folder / f"{step.epoch}-{step.number}-{step.worker.rank}.json"
    file.write_bytes(orjson.dumps(seen))


def die_once(step: Step, folder: Path, marker: Path) -> None:
    """Take the second worker down in the middle of the second epoch, but not the one that replaces it."""
    if (step.worker.rank, step.epoch, step.number) == (1, 2, 2) and not marker.exists():
        marker.touch()
        os._exit(1)
    note(step, folder)


def run(settings: ReidTrainingConfig, observe: Any) -> Outcome:
    job = make_job(settings)
    return run_job(Job(job.role, job.settings, partial(train_reid, observe=observe), job.data))


def steps_of(folder: Path) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Return what the two workers held, rank 0 first, by epoch and step."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for file in sorted(folder.iterdir()):
        epoch, number, _ = map(int, file.stem.split("-"))
        found.setdefault((epoch, number), []).append(orjson.loads(file.read_bytes()))
    return found


def epochs_of(settings: ReidTrainingConfig, run_id: str, metric: str) -> list[int]:
    client = MlflowClient(settings.mlflow.tracking_uri)
    return [point.step for point in client.get_metric_history(run_id, metric)]


def two_workers(market: Path, runs: Path, name: str, **changes: Any) -> ReidTrainingConfig:
    compute = {"workers": 2, "cpus_per_worker": 1}
    return tiny_settings(market, runs, name, compute=compute, batch={"identities": 4, "views": 2}, **changes)


def test_two_workers_hold_the_same_network_after_every_step(
    cluster: None, market: Path, runs: Path, tmp_path: Path
) -> None:
    settings = two_workers(market, runs, "same", losses={"centre_weight": 5e-4}, schedule={"epochs": 2})
    outcome = run(settings, partial(note, folder=tmp_path))
    steps = steps_of(tmp_path)
    assert {epoch for epoch, _ in steps} == {1, 2}
    held = []
    for first, second in steps.values():
        assert first["pid"] != second["pid"]
        assert first["parameters"] == second["parameters"]
        assert first["loss"] != second["loss"]
        held.append(first["parameters"])
    assert len(set(held)) == len(held)  # every step changes them
    assert outcome.scores[0].metrics["mAP"] > 0
    assert epochs_of(settings, outcome.run_id, "loss/total") == [1, 2]


def test_a_lost_worker_costs_no_epoch_and_doubles_none(cluster: None, market: Path, runs: Path, tmp_path: Path) -> None:
    settings = two_workers(market, runs, "lost")
    marker, folder = tmp_path / "died", tmp_path / "steps"
    folder.mkdir()
    outcome = run(settings, partial(die_once, folder=folder, marker=marker))
    assert marker.exists()
    steps = steps_of(folder)
    assert {epoch for epoch, _ in steps} == {1, 2, 3}
    assert all(first["parameters"] == second["parameters"] for first, second in steps.values())
    assert steps[1, 1][0]["pid"] != steps[3, 1][0]["pid"]
    for metric in ("loss/total", "learning_rate", "validation/mAP"):
        assert epochs_of(settings, outcome.run_id, metric) == [1, 2, 3]
    client = MlflowClient(settings.mlflow.tracking_uri)
    assert client.get_run(outcome.run_id).info.status == "FINISHED"
    assert (runs / "artifacts" / outcome.run_id / "artifacts" / MODEL / "model.json").is_file()


def test_workers_end_together_when_patience_does(cluster: None, market: Path, runs: Path, tmp_path: Path) -> None:
    # nothing is learned at such a rate, so that mAP stops to rise soon
    schedule = {"epochs": 1000, "learning_rate": 1e-12}
    settings = two_workers(market, runs, "impatient", schedule=schedule, validation={"patience": 1})
    outcome = run(settings, partial(note, folder=tmp_path))
    last = max(epoch for epoch, _ in steps_of(tmp_path))
    assert last < 1000
    assert all(len(both) == 2 for both in steps_of(tmp_path).values())
    assert epochs_of(settings, outcome.run_id, "validation/mAP") == list(range(1, last + 1))
