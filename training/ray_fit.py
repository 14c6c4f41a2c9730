"""Trains in workers of Ray Train, and relays what they say to this process."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import ray
import torch
from ray import train
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from motserve.cli.running.ray_session import running_ray, undisturbed
from motserve.config import LoggingConfig
from motserve.config.logs import setup_logging
from motserve.errors import MotserveError
from training.job_config import ComputeConfig
from training.progress import Say
from training.run_log import RunLog
from training.terminal import cause_of
from training.worker import RayExchange, Worker, temporary_folder

logger = logging.getLogger("motserve.training")

OpenLog = Callable[[], RunLog]
"""Opens the MLflow run of the job in another process."""

Train = Callable[[Worker], None]
"""Trains as one of the workers."""

_POLL_S: Final = 0.5
_ABORT_S: Final = 5.0
_PATIENCE_S: Final = 30.0
"""Seconds without a free place for the workers after which the user is told what they wait for."""


def fit_on_ray(
    name: str, compute: ComputeConfig, storage: str, work: Train, open_log: OpenLog, folder: Path, say: Say
) -> Path:
    """Train, on the connected cluster, else on one that Ray finds, else on Ray of this process alone.

    Args:
        name: Name of the job.
        compute: The workers.
        storage: Absolute folder, or bucket, of checkpoints.
        work: Trains as one of the workers; it is sent to each.
        open_log: Opens the run of the job; called by rank 0.
        folder: Empty folder for the last checkpoint.
        say: Prints a line.

    Returns:
        The folder with the last checkpoint.

    Raises:
        MotserveError: Ray does not start, or the training failed.
    """
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    with nullcontext() if ray.is_initialized() else running_ray(None, show_logs=True), _relay(compute, say) as lines:
        callbacks: list[Any] = [_LossReport(lines, compute.max_failures)]
        resources = {"CPU": compute.cpus_per_worker}
        if compute.gpus_per_worker:
            resources["GPU"] = compute.gpus_per_worker
        trainer = _InterruptibleTrainer(
            partial(_work, work, compute, open_log, lines),
            scaling_config=train.ScalingConfig(
                num_workers=compute.workers, use_gpu=compute.gpus_per_worker > 0, resources_per_worker=resources
            ),
            run_config=train.RunConfig(
                name=name,
                storage_path=storage,
                failure_config=train.FailureConfig(max_failures=compute.max_failures),
                checkpoint_config=train.CheckpointConfig(num_to_keep=compute.keep_checkpoints),
                callbacks=callbacks,
            ),
        )
        try:
            result = trainer.fit()
        except train.TrainingFailedError as error:
            raise MotserveError(f"{name}: {root_cause(error)}") from error
        if result.checkpoint is None:
            raise MotserveError(f"training of {name} ended without a checkpoint")
        return Path(result.checkpoint.to_directory(str(folder)))


class _InterruptibleTrainer(TorchTrainer):
    """Ends the workers after Ctrl-C or `kill`, and lets the interruption pass; Ray would return a result."""

    _controller: Any = None

    def fit(self) -> train.Result:
        """Train; see `TorchTrainer`."""
        try:
            return super().fit()
        except (KeyboardInterrupt, SystemExit):
            if self._controller is not None:
                # else a cluster keeps the place of the workers; the answer is that the controller has ended
                with undisturbed(), contextlib.suppress(ray.exceptions.RayError):
                    ray.get(self._controller.abort.remote(), timeout=_ABORT_S)
            raise

    def _register_sigint_handler(self, controller: Any) -> None:
        """Keep the handlers of this process, and the controller."""
        self._controller = controller


class _LossReport(train.UserCallback):
    """Says that workers were lost and are replaced; it runs in the controller of Ray Train."""

    def __init__(self, lines: Queue, max_failures: int) -> None:
        self._lines = lines
        self._left = max_failures

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """See `ray.train.UserCallback`."""
        if self._left:
            self._left -= 1
            lost = _first(worker_exceptions)
            _send(self._lines, f"{lost}; all workers start again from the last checkpoint")


def _work(work: Train, compute: ComputeConfig, open_log: OpenLog, lines: Queue) -> None:
    """Train as one of the workers of Ray."""
    setup_logging(LoggingConfig(format="text"))
    torch.set_num_threads(compute.torch_threads)
    context = train.get_context()
    rank = context.get_world_rank()
    with temporary_folder() as own:
        worker = Worker(
            rank,
            context.get_world_size(),
            train.torch.get_device(),
            Path(own),
            RayExchange(Path(own)),
            open_log() if rank == 0 else None,
            partial(_send, lines),
        )
        if worker.is_leader:
            number = "1 worker trains" if worker.count == 1 else f"{worker.count} workers train"
            worker.say(f"{number} on {_name_of(worker.device)}")
        try:
            work(worker)
        except Exception:
            logger.exception("worker %d failed", rank)  # Ray truncates tracebacks
            raise


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def _send(lines: Queue, line: str) -> None:
    """Send a line to the process that started the job; a lost line must not end the training."""
    with contextlib.suppress(ray.exceptions.RayError):
        lines.put(line)


@contextmanager
def _relay(compute: ComputeConfig, say: Say) -> Iterator[Queue]:
    """Print the lines that other processes put into a queue, in a thread, until the block ends."""
    lines, ended = Queue(actor_options={"num_cpus": 0}), threading.Event()

    def print_all() -> None:
        silent_until = time.monotonic() + _PATIENCE_S
        with contextlib.suppress(ray.exceptions.RayError):  # of a cluster that is gone
            while not (ended.is_set() and lines.empty()):
                with contextlib.suppress(Empty):
                    say(lines.get(timeout=_POLL_S))
                    silent_until = float("inf")
                if time.monotonic() > silent_until:
                    silent_until = float("inf")
                    say(_shortage(compute))

    thread = threading.Thread(target=print_all, name="relay", daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join()


def _shortage(compute: ComputeConfig) -> str:
    """Say what the workers wait for."""
    total = ray.cluster_resources()
    return (
        f"waiting for Ray to start {compute.summary}; the whole cluster has {total.get('CPU', 0):g} CPU and "
        f"{total.get('GPU', 0):g} GPU"
    )


def root_cause(error: Exception) -> str:
    """Return why a training of Ray Train failed, in one sentence."""
    if isinstance(error, train.WorkerGroupError) and error.worker_failures:
        return _first(error.worker_failures)
    return cause_of(getattr(error, "controller_failure", error))


def _first(failures: dict[int, Exception]) -> str:
    """Return the failure that the others follow from, in one sentence.

    It is that of a process that ended, else one that the project's own checks found, else that of the lowest rank.
    """
    causes = {rank: getattr(error, "health_check_failure", error) for rank, error in failures.items()}
    lost = {rank: isinstance(cause, ray.exceptions.RayActorError) for rank, cause in causes.items()}
    rank = min(causes, key=lambda rank: (not lost[rank], not isinstance(causes[rank], MotserveError), rank))
    if lost[rank]:
        return f"worker {rank} was lost: its process ended, perhaps for lack of memory, or its machine did"
    return f"worker {rank} failed: {cause_of(causes[rank])}"
