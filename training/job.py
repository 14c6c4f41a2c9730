"""Runs a training job: one run in MLflow, workers on Ray Train, and the result as a version in the registry."""

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
"""Folder of the finished model with its card; only the last checkpoint has it."""

_ELSEWHERE: Final = {"compute", "mlflow", "register_as"}
"""Settings of where a job runs and is logged, which do not affect the model."""

_LIBRARIES: Final = ("ray", "mlflow", "safetensors")


@dataclass(frozen=True, slots=True)
class Job(Generic[Settings]):
    """A training job.

    Attributes:
        role: Role of the model.
        settings: The settings.
        train: Train function of every worker; its last checkpoint has the folder `MODEL`.
        data: Checksums and versions of the data, for the run in MLflow.
    """

    role: Role
    settings: Settings
    train: Callable[[Worker, Settings], None]
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a job.

    Attributes:
        scores: Scores of the model on each set of data.
        run_id: ID of the run in MLflow.
        version: URI of the version in the registry; None if it was not registered.
    """

    scores: tuple[Scores, ...]
    run_id: str
    version: str | None


def run_job(job: Job[Settings], result: Path | None = None, clock: Callable[[], float] = time.monotonic) -> Outcome:
    """Train, log the run, and register the result.

    An interrupted job resumes from its last checkpoint, in the same run of MLflow.

    Args:
        job: The job.
        result: New folder for weights and card of the finished model; None for no copy.
        clock: Monotonic clock in seconds.

    Raises:
        InvalidConfig: A job of that name is finished or was started with other settings or data; or the folder exists.
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
    """Copy a folder atomically."""
    unfinished = result.with_name(f".{result.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(model, unfinished)
    unfinished.rename(result)


def _open_log(job: Job[Settings], mlflow: MlflowConfig, place: str) -> RunLog:
    settings = job.settings
    relevant = settings.model_dump(mode="json", exclude=_ELSEWHERE)
    digest = hashlib.sha256(json.dumps([relevant, job.data], sort_keys=True).encode()).hexdigest()
    interrupted, has_checkpoints = RunLog.find(mlflow, settings.name), _exists(place)
    if interrupted is not None and not has_checkpoints:
        # without its checkpoints the job starts from the beginning, so it gets a new run
        interrupted.abandon()
        interrupted = None
    if interrupted is None:
        if has_checkpoints:
            raise InvalidConfig(
                f"{place} exists, but MLflow has no interrupted job {settings.name}: the job is finished or was logged "
                "to another store. Choose another name, or remove the folder"
            )
        parameters = without_credentials(settings.model_dump(mode="json"))
        return RunLog.create(mlflow, settings.name, parameters, _provenance_tags(job), digest)
    if interrupted.digest != digest:
        raise InvalidConfig(
            f"job {settings.name} was started with other settings or other data and cannot be resumed with these; "
            "choose another name"
        )
    interrupted.resume()
    logger.info("job is resumed", extra={"job": settings.name, "run": interrupted.run_id})
    return interrupted


def _provenance_tags(job: Job[Settings]) -> dict[str, Any]:
    """Return the provenance of a result as tags, including those that MLflow's page shows."""
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
    """Make a folder absolute, because workers have another working folder; buckets are unchanged."""
    return storage if "://" in storage else str(Path(storage).absolute())


def _exists(place: str) -> bool:
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(place)
        return bool(system.get_file_info(path).type != fs.FileType.NotFound)
    except (OSError, ValueError) as error:
        raise MotserveError(f"compute.storage cannot be accessed: {place}: {error}") from error
