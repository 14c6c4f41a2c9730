"""What a train function finds where it runs: rank, device, checkpoints, and the record of the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from ray import train

from training.run_log import RunLog

Write: TypeAlias = Callable[[Path], None]
"""Writes a checkpoint into an empty folder."""


class Exchange(Protocol):
    """Where checkpoints go to and come from."""

    def latest(self) -> Path | None:
        """Return a folder with the last checkpoint that was handed in; None before the first."""

    def report(self, metrics: Mapping[str, float], write: Write | None) -> None:
        """Hand in a checkpoint; `write` is None on all workers but the first."""


class RayExchange:
    """Ray Train's: a checkpoint is safe when `report` returns, and the workers that replace lost ones get it.

    Args:
        folder: Folder of this process for a checkpoint that is fetched.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Path | None:
        """Fetch the last checkpoint; see `Exchange.latest`."""
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
    """A folder, for a job in one process.

    Args:
        folder: The folder; it appears with the first checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Path | None:
        """Return the folder; see `Exchange.latest`."""
        return self._folder if self._folder.is_dir() else None

    def report(self, metrics: Mapping[str, float], write: Write | None) -> None:
        """Replace what the folder holds; see `Exchange.report`."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=self._folder.parent))
        try:
            if write is not None:
                write(fresh)
        except BaseException:
            shutil.rmtree(fresh)
            raise
        shutil.rmtree(self._folder, ignore_errors=True)
        fresh.replace(self._folder)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of a job.

    Attributes:
        rank: Its number among the workers, from 0.
        count: How many workers there are.
        device: Where its network lives.
        folder: Folder of its own for files that need not outlive it.
        exchange: Where checkpoints go to and come from.
        log: The record of the run; None for all but rank 0.
    """

    rank: int
    count: int
    device: torch.device
    folder: Path
    exchange: Exchange
    log: RunLog | None

    @property
    def leads(self) -> bool:
        """Whether this worker writes what one worker writes for all."""
        return self.rank == 0

    def report(self, metrics: Mapping[str, float], write: Write) -> None:
        """Hand in a checkpoint. Every worker calls it, and all wait until the checkpoint is safe.

        Args:
            metrics: What there is to say of it.
            write: Writes it; called on rank 0 only.
        """
        self.exchange.report(metrics, write if self.leads else None)


@dataclass(frozen=True, slots=True)
class WorkerStep:
    """What a worker has just done.

    Attributes:
        worker: The worker.
        epoch: The epoch, counted from 1.
        number: The step of the epoch, counted from 1.
    """

    worker: Worker
    epoch: int
    number: int
