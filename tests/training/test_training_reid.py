from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
import torch
from mlflow import MlflowClient
from reid_training_data import tiny_settings, write_crops, write_market

from motserve.config import Config, MlflowConfig, change_config
from motserve.errors import InvalidConfig, MotserveError
from motserve.lab.evaluation.retrieval import RetrievalScores
from motserve.lab.experiments.measure import measure_embedder
from motserve.models.registry import Registry, read_card
from training.job import MODEL, Outcome, run_job
from training.progress import quiet
from training.reid import train as reid_train
from training.reid.command import make_job
from training.reid.config import ReidTrainingConfig
from training.reid.train import Step, silent, train_reid
from training.run_log import RunLog
from training.worker import FolderExchange, Worker


class Interrupted(Exception):
    """A simulated crash of the machine."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Path:
    """Folder of checkpoints, with an MLflow store."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copy(mlflow_database, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("data") / "market")


def run(
    settings: ReidTrainingConfig, observe: Callable[[Step], None] = silent, said: list[str] | None = None
) -> Outcome:
    job = replace(make_job(settings), train=partial(train_reid, observe=observe))
    return run_job(job, say=quiet if said is None else said.append)


def history(settings: ReidTrainingConfig, run_id: str, metric: str) -> list[tuple[int, float]]:
    points = MlflowClient(settings.mlflow.tracking_uri).get_metric_history(run_id, metric)
    return sorted((point.step, point.value) for point in points)


def artifacts(runs: Path, run_id: str) -> Path:
    return runs / "artifacts" / run_id / "artifacts"


@pytest.fixture(scope="module")
def finished(runs: Path, market: Path) -> tuple[ReidTrainingConfig, Outcome, list[float]]:
    """An uninterrupted job: its settings, its outcome, and the losses of its steps."""
    losses: list[float] = []
    other = write_crops(runs / "other", range(201, 205), [1, 2], 2)
    settings = tiny_settings(
        market,
        runs,
        "undisturbed",
        register_as="tiny_reid",
        losses={"centre_weight": 5e-4},
        cross=[{"root": str(other), "protocol": "cross-camera"}],
    )
    outcome = run(settings, lambda step: losses.append(float(step.losses.total)))
    return settings, outcome, losses


def test_the_result_is_registered_with_its_scores(
    finished: tuple[ReidTrainingConfig, Outcome, list[float]], runs: Path, market: Path
) -> None:
    settings, outcome, _ = finished
    assert outcome.version == "models:/tiny_reid/1"
    version = Registry(settings.mlflow).version("tiny_reid", 1)
    assert (version.role, version.architecture, version.run_id) == ("reid", "mobilenet_v3_small", outcome.run_id)
    assert [one.data for one in outcome.scores] == [
        "market, market1501, 6 queries",
        "other, cross-camera, 8 queries",
    ]
    model = artifacts(runs, outcome.run_id) / MODEL
    card = read_card(model)
    assert card.scores == outcome.scores
    assert card.training["epochs"] == 3
    # the registered model has the same scores
    changes = {
        "reid": {"weights": [outcome.version], "crop_height": 32, "crop_width": 16},
        "cache_dir": runs / "cache",
        "mlflow": settings.mlflow.model_dump(),
    }
    assert measure_embedder(change_config(Config(), changes), market, "market1501") == outcome.scores[0]


def test_epochs_are_logged(finished: tuple[ReidTrainingConfig, Outcome, list[float]]) -> None:
    settings, outcome, _ = finished
    for metric in ("loss/identity", "loss/triplet", "accuracy", "images_per_s", "validation/mAP", "validation/mINP"):
        assert [epoch for epoch, _ in history(settings, outcome.run_id, metric)] == [1, 2, 3]
    rates = [rate for _, rate in history(settings, outcome.run_id, "learning_rate")]
    assert rates == pytest.approx([1e-5, 1e-3, 1e-4])
    assert history(settings, outcome.run_id, "test/Rank-1") == [(0, outcome.scores[0].metrics["Rank-1"])]
    assert history(settings, outcome.run_id, "cross/other/mAP") == [(0, outcome.scores[1].metrics["mAP"])]
    tags = MlflowClient(settings.mlflow.tracking_uri).get_run(outcome.run_id).data.tags
    assert tags["data.train.files"] == "78"
    assert tags["registered"] == outcome.version


def test_pictures_of_the_result_are_logged(
    finished: tuple[ReidTrainingConfig, Outcome, list[float]], runs: Path
) -> None:
    _, outcome, _ = finished
    kept = artifacts(runs, outcome.run_id)
    assert {path.name for path in (kept / "pictures").iterdir()} == {"matches.png", "cmc.png", "distances.png"}
    matches = cv2.imread(str(kept / "pictures" / "matches.png"))
    assert matches is not None
    assert (np.abs(matches.astype(int) - [0x3A, 0x9D, 0x2A]).sum(2) < 9).any()  # a right match is framed in green
    assert (np.abs(matches.astype(int) - [0x2F, 0x2F, 0xD0]).sum(2) < 9).any()
    assert "backbone: mobilenet_v3_small" in (kept / "settings.yaml").read_text(encoding="utf-8")


def test_a_finished_job_is_not_run_again(finished: tuple[ReidTrainingConfig, Outcome, list[float]]) -> None:
    with pytest.raises(InvalidConfig, match="no interrupted job undisturbed: the job is finished"):
        run(finished[0])


def test_an_interrupted_job_gives_the_same_result(
    finished: tuple[ReidTrainingConfig, Outcome, list[float]], runs: Path
) -> None:
    settings, outcome, undisturbed = finished
    again = settings.model_copy(update={"name": "interrupted", "register_as": None})
    losses: dict[tuple[int, int], float] = {}

    def observe(step: Step, stop: tuple[int, int] | None) -> None:
        if (step.epoch, step.number) == stop:
            raise Interrupted
        losses[step.epoch, step.number] = float(step.losses.total)

    for stop in ((2, 2), (3, 1)):
        with pytest.raises(Interrupted):
            run(again, partial(observe, stop=stop))
    resumed = run(again, partial(observe, stop=None))
    assert list(losses.values()) == pytest.approx(undisturbed, rel=1e-5)
    assert resumed.scores[0].metrics == pytest.approx(outcome.scores[0].metrics)
    for metric in ("loss/total", "learning_rate", "validation/mAP"):
        steps, measured = zip(*history(again, resumed.run_id, metric), strict=True)
        expected_steps, expected = zip(*history(settings, outcome.run_id, metric), strict=True)
        assert steps == expected_steps
        assert measured == pytest.approx(expected, rel=1e-5)
    client = MlflowClient(settings.mlflow.tracking_uri)
    assert client.get_run(resumed.run_id).info.status == "FINISHED"
    experiment = client.get_experiment_by_name(settings.mlflow.experiment)
    assert experiment is not None
    names = [one.info.run_name for one in client.search_runs([experiment.experiment_id])]
    assert names.count("interrupted") == 1


def test_a_job_without_test_scores_is_resumed_with_the_test(
    market: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(market, runs, "unmeasured", schedule={"epochs": 1})
    steps: list[Step] = []
    with monkeypatch.context() as patch:
        patch.setattr(reid_train, "write_result", lambda *_: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            run(settings)
    assert run(settings, steps.append).scores[0].metrics["mAP"] > 0
    assert not steps


def scored(mean_ap: float) -> RetrievalScores:
    return RetrievalScores(mean_ap, mean_ap, mean_ap, mean_ap, mean_ap, 1, 0)


def test_the_best_epoch_is_kept_and_patience_stops_training(
    market: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([0.1, 0.4, 0.3, 0.4, 0.9])
    monkeypatch.setattr(reid_train, "validate", lambda *_: scored(next(answers)))
    settings = tiny_settings(market, runs, "patient", schedule={"epochs": 20}, validation={"patience": 2})
    said: list[str] = []
    outcome = run(settings, said=said)
    assert [epoch for epoch, _ in history(settings, outcome.run_id, "validation/mAP")] == [1, 2, 3, 4]
    *_, last, early, _, end = said
    assert last.startswith("epoch 4/20: ")
    assert "validation mAP 40.00" in last
    assert early == "training ends early: no epoch since epoch 2 is better"
    assert "the best epoch is 2, with Rank-1 40.00" in end
    training: Any = orjson.loads((artifacts(runs, outcome.run_id) / MODEL / "model.json").read_bytes())["training"]
    assert (training["epochs"], training["epoch"], training["validation"]["mAP"]) == (4, 2, 40)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("bfloat16", {"precision": "bf16"}),
        ("centres", {"losses": {"centre_weight": 5e-4}, "schedule": {"clip_norm": 1.0, "decay": "cosine"}}),
        ("none-held-out", {"data": {"validation_share": 0.0}, "compute": {"loaders": 1}}),
    ],
)
def test_other_training_settings_work(market: Path, runs: Path, name: str, changes: dict[str, Any]) -> None:
    moved: list[np.ndarray] = []

    def observe(step: Step) -> None:
        if step.learner.centres is not None:
            moved.append(step.learner.centres.detach().numpy().copy())

    changes = {**changes, "schedule": {"epochs": 1, "warmup_epochs": 0, **changes.get("schedule", {})}}
    settings = tiny_settings(market, runs, name, **changes)
    outcome = run(settings, observe)
    assert np.isfinite([value for _, value in history(settings, outcome.run_id, "loss/total")]).all()
    if name == "centres":
        assert np.abs(moved[-1] - moved[0]).max() > 0.01
        assert [value > 0 for _, value in history(settings, outcome.run_id, "loss/centre")] == [True]


def test_losses_that_are_not_finite_fail_the_job(market: Path, runs: Path) -> None:
    settings = tiny_settings(market, runs, "exploded", schedule={"epochs": 9, "learning_rate": 1.0, "warmup_epochs": 0})

    def observe(step: Step) -> None:
        next(step.learner.parameters()).data.fill_(float("nan"))

    with pytest.raises(MotserveError, match=r"losses of epoch 1 are not finite.*schedule\.learning_rate"):
        run(settings, observe)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gpus_train_in_every_precision(
    market: Path, tmp_path: Path, mlflow_store: MlflowConfig, precision: str
) -> None:
    settings = tiny_settings(market, tmp_path, precision=precision, compute={"workers": 1, "gpus_per_worker": 1})
    log = RunLog.create(mlflow_store, "gpu", {}, {}, "")
    worker = Worker(0, 1, torch.device("cuda"), tmp_path, FolderExchange(tmp_path / "last"), log)
    losses: list[float] = []
    train_reid(worker, settings, lambda step: losses.append(float(step.losses.total)))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assert read_card(tmp_path / "last" / MODEL).scores[0].metrics["mAP"] > 0


@pytest.mark.slow
def test_retrieval_of_real_people_improves_in_a_few_epochs(data_dir: Path, tmp_path: Path) -> None:
    settings = tiny_settings(
        data_dir / "reid_images" / "PKU-Reid-74",
        tmp_path,
        data={"layout": "pku", "validation_share": 0.15},
        network={"dimension": 128},
        crops={"height": 128, "width": 64, "pad": 5},
        batch={"identities": 16, "views": 4},
        schedule={"epochs": 25, "warmup_epochs": 3, "decay": "cosine"},
        validation={"every": 25},
    )
    (test,) = run(settings).scores
    assert test.metrics["Rank-1"] > 40  # of twelve people; untrained it is near 10
    assert test.metrics["mAP"] > 35
