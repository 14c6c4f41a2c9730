"""Settings of all training jobs: workers, storage, logging and registration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import Field, model_validator

from motserve.config import MlflowConfig
from motserve.config.base import Section
from motserve.config.paths import LocalPath, NameOrPath
from motserve.models.credentials import without_credentials

SCRATCH: Final = "scratch"
"""Value of `init` for random weights."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A name that is valid as a folder, an MLflow tag and a Ray Train run."""


class ComputeConfig(Section):
    """The workers of a job (data parallel: each has the whole network and a share of every batch)."""

    workers: int = Field(
        1,
        ge=0,
        le=4096,
        description="Number of workers, each with a share of every batch. 0 trains in this process without Ray, for "
        "debugging.",
    )
    cpus_per_worker: float = Field(1.0, gt=0, le=1024, description="CPUs that Ray reserves for a worker.")
    gpus_per_worker: float = Field(0.0, ge=0, le=16, description="GPUs of a worker; 0 trains on the CPU.")
    threads: int = Field(0, ge=0, le=1024, description="Threads of torch in a worker; 0 for one per CPU.")
    loaders: int = Field(
        0, ge=0, le=256, description="Processes that decode pictures for a worker; 0 lets the worker decode itself."
    )
    max_failures: int = Field(
        3, ge=-1, le=1000, description="Number of times that lost workers are replaced and resume from the last "
        "checkpoint; -1 for unlimited."
    )  # fmt: skip
    storage: NameOrPath = Field(
        "runs/training",
        min_length=1,
        description="Folder or bucket (`s3://…`) of checkpoints; shared by all nodes. An interrupted job resumes from "
        "it when it is started again with the same name.",
    )
    keep_checkpoints: int = Field(2, ge=1, le=1000, description="Number of latest checkpoints to keep.")

    @property
    def torch_threads(self) -> int:
        """Threads of torch in a worker."""
        return self.threads or max(1, int(self.cpus_per_worker))

    @property
    def summary(self) -> str:
        """Number and resources of the workers, for the user."""
        if not self.workers:
            return "this process on the CPU"
        each = f"{self.gpus_per_worker:g} GPU" if self.gpus_per_worker else f"{self.cpus_per_worker:g} CPU"
        return f"1 worker with {each}" if self.workers == 1 else f"{self.workers} workers with {each} each"


class JobConfig(Section):
    """One training job."""

    name: Name = Field(description="Name of the job, of its folder in `compute.storage` and of its run in MLflow.")
    seed: int = Field(0, ge=0, le=2**31, description="Seed of all random numbers.")
    compute: ComputeConfig = Field(ComputeConfig(), description="Workers.")
    mlflow: MlflowConfig = Field(MlflowConfig(), description="MLflow store of the run and the registry.")
    log_dir: LocalPath = Field(
        Path("runs/logs"),
        description="Folder of the log file of the job, `NAME.log`, with the output of Ray and of all libraries.",
    )
    register_as: Name | None = Field(
        None, description="Name of the model in the registry to which the result is added as a version; null for none."
    )

    @model_validator(mode="after")
    def _check_compute(self) -> JobConfig:
        if self.compute.gpus_per_worker and not self.compute.workers:
            raise ValueError("compute.workers 0 trains in this process and takes no gpus_per_worker")
        if "://" in self.compute.storage and not self.compute.workers:
            raise ValueError("compute.workers 0 trains in this process and takes no bucket as compute.storage")
        return self


def write_settings(settings: JobConfig, file: Path) -> None:
    """Write the settings of a job as YAML, without passwords in URLs, because the file is logged."""
    tree = without_credentials(settings.model_dump(mode="json"))
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
