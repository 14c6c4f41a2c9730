"""The environment of a train function: rank, device, checkpoints and MLflow run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from ray import train

from motserve.cli.running.ray_session import undisturbed
from training.progress import Say, quiet
from training.run_log import RunLog

Write: TypeAlias = Callable[[Path], None]
"""Writes a checkpoint into an empty folder."""


class Exchange(Protocol):
    """Storage of checkpoints."""

    def latest(self) -> Path | None:
        """Return a folder with the last reported checkpoint; None before the first."""

    def report(self, metrics: Mapping[str, float], write: Write | None) -> None:
        """Report a checkpoint; `write` is None on all workers except rank 0."""


class RayExchange:
    """Checkpoints of Ray Train: stored when `report` returns, and loaded by workers that replace lost ones.

    Args:
        folder: Folder of this process for a downloaded checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Path | None:
        """Download the last checkpoint; see `Exchange.latest`."""
        last = train.get_checkpoint()
        return None if last is None else Path(last.to_directory(str(self._folder / "latest")))

    def report(self, metrics: Mapping[str, float], write: Write | None) -> None:
        """Upload a checkpoint; see `Exchange.report`."""
        if write is None:
            train.report(dict(metrics))
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            train.report(dict(metrics), checkpoint=train.Checkpoint.from_directory(folder))


class FolderExchange:
    """Checkpoints in a folder, for a job in one process.

    Args:
        folder: The folder; created with the first checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Path | None:
        """Return the folder; see `Exchange.latest`."""
        return self._folder if self._folder.is_dir() else None

    def report(self, metrics: Mapping[str, float], write: Write | None) -> None:
        """Replace the content of the folder; see `Exchange.report`."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=self._folder.parent))
        try:
            if write is not None:
                write(unfinished)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
        with undisturbed():  # between the two steps there is no checkpoint
            shutil.rmtree(self._folder, ignore_errors=True)
            unfinished.replace(self._folder)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of a job.

    Attributes:
        rank: Its number among the workers, from 0.
        count: Number of workers.
        device: Device of its network.
        folder: Temporary folder of this worker.
        exchange: Storage of checkpoints.
        log: The MLflow run; None on all workers except rank 0.
        say: Prints a line for the user.
    """

    rank: int
    count: int
    device: torch.device
    folder: Path
    exchange: Exchange
    log: RunLog | None
    say: Say = quiet

    @property
    def is_leader(self) -> bool:
        """Whether this worker writes checkpoints and logs for all workers."""
        return self.rank == 0

    def report(self, metrics: Mapping[str, float], write: Write) -> None:
        """Report a checkpoint. Every worker calls it, and all wait until the checkpoint is stored.

        Args:
            metrics: Metrics of the checkpoint.
            write: Function that writes it; called on rank 0 only.
        """
        self.exchange.report(metrics, write if self.is_leader else None)


@dataclass(frozen=True, slots=True)
class WorkerStep:
    """A training step that a worker has completed.

    Attributes:
        worker: The worker.
        epoch: The epoch, counted from 1.
        number: The step of the epoch, counted from 1.
    """

    worker: Worker
    epoch: int
    number: int


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder for one process, removed with all that other processes still write into it."""
    return tempfile.TemporaryDirectory(prefix="motserve-", ignore_cleanup_errors=True)
