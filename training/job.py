"""The frame of a training job: one run in MLflow, workers on Ray Train, and the result as a version in the registry."""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import torch

from motserve.config import Config, LoggingConfig, MlflowConfig
from motserve.config.base import Role
from motserve.config.logs import setup_logging
from motserve.errors import InvalidConfig, MotserveError
from motserve.models.credentials import without_credentials
from motserve.models.mlflow_store import placed
from motserve.models.provenance import stamp
from motserve.models.registry import Registry, Scores, read_card
from training.job_config import JobConfig
from training.run_log import RunLog
from training.worker import FolderExchange, RayExchange, Worker

logger = logging.getLogger("motserve.training")

Settings = TypeVar("Settings", bound=JobConfig)

MODEL: Final = "model"
"""Folder in a checkpoint with the finished model, its card among the files; a checkpoint that has it is the last."""

_ELSEWHERE: Final = {"compute", "mlflow", "register_as"}
"""Settings that say where a job runs and what becomes of it, not what it learns."""

_LIBRARIES: Final = ("ray", "mlflow", "safetensors")


@dataclass(frozen=True, slots=True)
class Job(Generic[Settings]):
    """What is trained, on what, and how.

    Attributes:
        role: What the model will be.
        settings: Everything that was set.
        train: Runs in every worker; its last checkpoint has the folder `MODEL`.
        data: Where the data come from: checksums and versions, for the record.
    """

    role: Role
    settings: Settings
    train: Callable[[Worker, Settings], None]
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to.

    Attributes:
        scores: What the model scores on each set of data.
        run_id: MLflow's ID of the run.
        version: Its name in the registry; None where it was not registered.
    """

    scores: tuple[Scores, ...]
    run_id: str
    version: str | None


def run_job(job: Job[Settings], result: Path | None = None, clock: Callable[[], float] = time.monotonic) -> Outcome:
    """Train, record, and register the result.

    A job that was interrupted goes on from its last checkpoint, in the same run of MLflow.

    Args:
        job: The job.
        result: Folder that gets weights and card of the finished model, and must not exist; None for no copy.
        clock: Monotonic clock in seconds.

    Raises:
        InvalidConfig: A job of that name is finished, or was begun with other settings or data; or the folder exists.
        MotserveError: MLflow refuses, or training failed.
    """
    settings = job.settings
    if result is not None and result.exists():
        raise InvalidConfig(f"{result} exists; choose another folder for the result, or remove it")
    mlflow, storage = placed(settings.mlflow), _placed(settings.compute.storage)
    log = _open_log(job, mlflow, f"{storage}/{settings.name}")
    started = clock()
    with log.ending(), tempfile.TemporaryDirectory() as folder:
        if settings.compute.workers:
            last = _fit_on_ray(job, storage, mlflow, log.run_id, Path(folder))
        else:
            last = _fit_here(job, storage, mlflow, log.run_id)
        model = last / MODEL
        scores = read_card(model).scores
        if result is not None:
            _copy(model, result)
        log.artifacts(model, MODEL)
        log.tags({"duration_s": round(clock() - started, 1)})
        version = None
        if settings.register_as:
            version = Registry(mlflow).register(settings.register_as, model, log.run_id, MODEL).uri
            log.tags({"registered": version})
    return Outcome(scores, log.run_id, version)


def _copy(model: Path, result: Path) -> None:
    """Copy a folder, so that it appears whole or not at all."""
    unfinished = result.with_name(f".{result.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(model, unfinished)
    unfinished.rename(result)


def _open_log(job: Job[Settings], mlflow: MlflowConfig, place: str) -> RunLog:
    settings = job.settings
    learned = settings.model_dump(mode="json", exclude=_ELSEWHERE)
    digest = hashlib.sha256(json.dumps([learned, job.data], sort_keys=True).encode()).hexdigest()
    interrupted, begun = RunLog.find(mlflow, settings.name), _exists(place)
    if interrupted is not None and not begun:
        # its checkpoints are gone, so that it would begin anew with the record of another attempt
        interrupted.abandon()
        interrupted = None
    if interrupted is None:
        if begun:
            raise InvalidConfig(
                f"{place} exists and MLflow knows of no interrupted job {settings.name}: it is finished, or was "
                "recorded elsewhere. Choose another name, or remove the folder"
            )
        parameters = without_credentials(settings.model_dump(mode="json"))
        return RunLog.create(mlflow, settings.name, parameters, _origin(job), digest)
    if interrupted.digest != digest:
        raise InvalidConfig(
            f"job {settings.name} was begun with other settings or other data and cannot go on with these; choose "
            "another name"
        )
    interrupted.go_on()
    logger.info("job goes on", extra={"job": settings.name, "run": interrupted.run_id})
    return interrupted


def _origin(job: Job[Settings]) -> dict[str, Any]:
    """Return what the record says of where a result comes from, some of it by the names that MLflow shows."""
    provenance = stamp(Config(), data=job.data, sections=(), libraries=_LIBRARIES)
    tags = {"kind": f"train_{job.role}", **{name: value for name, value in provenance.items() if name != "config"}}
    tags |= {"mlflow.user": getpass.getuser(), "mlflow.source.name": " ".join(provenance["command"])}
    if provenance["motserve"]["commit"]:
        tags["mlflow.source.git.commit"] = provenance["motserve"]["commit"]
    return tags


def _fit_here(job: Job[Settings], storage: str, mlflow: MlflowConfig, run_id: str) -> Path:
    """Train in this process and return the folder of the last checkpoint."""
    place = Path(storage) / job.settings.name
    torch.set_num_threads(job.settings.compute.torch_threads)
    with _own_folder() as own:
        worker = Worker(0, 1, torch.device("cpu"), Path(own), FolderExchange(place), RunLog(mlflow, run_id))
        job.train(worker, job.settings)
    return place


def _fit_on_ray(job: Job[Settings], storage: str, mlflow: MlflowConfig, run_id: str, folder: Path) -> Path:
    """Train in workers of Ray and return a folder with the last checkpoint."""
    from ray import train
    from ray.train.torch import TorchTrainer

    compute = job.settings.compute
    resources = {"CPU": compute.cpus_per_worker}
    if compute.gpus_per_worker:
        resources["GPU"] = compute.gpus_per_worker
    trainer = TorchTrainer(
        partial(_work, job, mlflow, run_id),
        scaling_config=train.ScalingConfig(
            num_workers=compute.workers, use_gpu=compute.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=train.RunConfig(
            name=job.settings.name,
            storage_path=storage,
            failure_config=train.FailureConfig(max_failures=compute.max_failures),
            checkpoint_config=train.CheckpointConfig(num_to_keep=compute.keep_checkpoints),
        ),
    )
    try:
        result = trainer.fit()
    except train.TrainingFailedError as error:
        raise MotserveError(f"training of {job.settings.name} failed: {error}") from error
    if result.checkpoint is None:
        raise MotserveError(f"training of {job.settings.name} ended without a checkpoint")
    return Path(result.checkpoint.to_directory(str(folder)))


def _work(job: Job[Settings], mlflow: MlflowConfig, run_id: str) -> None:
    """Train as one of the workers of Ray."""
    from ray import train

    setup_logging(LoggingConfig())
    torch.set_num_threads(job.settings.compute.torch_threads)
    context = train.get_context()
    rank = context.get_world_rank()
    with _own_folder() as own:
        worker = Worker(
            rank,
            context.get_world_size(),
            train.torch.get_device(),
            Path(own),
            RayExchange(Path(own)),
            RunLog(mlflow, run_id) if rank == 0 else None,
        )
        job.train(worker, job.settings)


def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="motserve-", ignore_cleanup_errors=True)


def _placed(storage: str) -> str:
    """Make a folder absolute, for workers that are in another; buckets stay as they are."""
    return storage if "://" in storage else str(Path(storage).absolute())


def _exists(place: str) -> bool:
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(place)
        return bool(system.get_file_info(path).type != fs.FileType.NotFound)
    except (OSError, ValueError) as error:
        raise MotserveError(f"compute.storage cannot be looked at: {place}: {error}") from error
