"""What all training jobs are told: where they run, where they write, and how their best model is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import Field, model_validator

from motserve.config import MlflowConfig
from motserve.config.base import Section
from motserve.config.paths import NameOrPath
from motserve.models.credentials import without_credentials

SCRATCH: Final = "scratch"
"""What `init` says for random weights."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A name that is a folder, an MLflow tag and a Ray Train run at once."""


class ComputeConfig(Section):
    """The workers of a job, which hold the same network and share the data among them."""

    workers: int = Field(
        1,
        ge=0,
        le=4096,
        description="Workers, each with its own share of every batch. 0 trains in this process, without Ray's "
        "checkpoints: for a debugger.",
    )
    cpus_per_worker: float = Field(1.0, gt=0, le=1024, description="CPUs that Ray reserves for a worker.")
    gpus_per_worker: float = Field(0.0, ge=0, le=16, description="GPUs of a worker; 0 trains on the CPU.")
    threads: int = Field(0, ge=0, le=1024, description="Threads of torch in a worker; 0 for one for each of its CPUs.")
    loaders: int = Field(
        0, ge=0, le=256, description="Processes that decode pictures for a worker; 0 lets the worker decode itself."
    )
    max_failures: int = Field(
        3, ge=-1, le=1000, description="Times that lost workers are replaced and go on from the last checkpoint; -1 "
        "for as often as it takes."
    )  # fmt: skip
    storage: NameOrPath = Field(
        "runs/training",
        min_length=1,
        description="Folder or bucket (`s3://…`) of checkpoints; shared by all nodes. A job that was interrupted goes "
        "on from there when it is started again by the same name.",
    )
    keep_checkpoints: int = Field(2, ge=1, le=1000, description="Checkpoints kept of a job, the latest.")

    @property
    def torch_threads(self) -> int:
        """Threads of torch in a worker."""
        return self.threads or max(1, int(self.cpus_per_worker))


class JobConfig(Section):
    """One training job."""

    name: Name = Field(description="Name of the job: of its folder in `compute.storage`, and of its run in MLflow.")
    seed: int = Field(0, ge=0, le=2**31, description="Everything random follows from this number.")
    compute: ComputeConfig = Field(ComputeConfig(), description="Workers.")
    mlflow: MlflowConfig = Field(MlflowConfig(), description="Where the job is recorded and its model registered.")
    register_as: Name | None = Field(
        None, description="Name of the model in the registry of which the result becomes a version; null for none."
    )

    @model_validator(mode="after")
    def _within_gate(self) -> JobConfig:
        if self.compute.gpus_per_worker and not self.compute.workers:
            raise ValueError("compute.workers 0 trains in this process and takes no gpus_per_worker")
        if "://" in self.compute.storage and not self.compute.workers:
            raise ValueError("compute.workers 0 trains in this process and takes no bucket as compute.storage")
        return self


def write_settings(settings: JobConfig, file: Path) -> None:
    """Write the settings of a job as YAML, without the passwords in addresses: the file goes around."""
    tree = without_credentials(settings.model_dump(mode="json"))
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
