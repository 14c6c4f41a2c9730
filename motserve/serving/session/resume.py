"""Resumes a session where an earlier one of the same video stopped, and saves what the next one needs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from motserve.config import Config
from motserve.errors import UnfitCheckpoint, WeightsUnavailable
from motserve.results import ResultWriter, truncate_results
from motserve.serving.inference.model_cache import Names
from motserve.serving.inference.replica import ModelInfo
from motserve.serving.session.checkpoint import Checkpoint, CheckpointStore
from motserve.serving.stores import ArtifactStore, Job

logger = logging.getLogger("motserve.session")


class Continuation:
    """The checkpoints and the result file of one attempt.

    Args:
        job: The video and the attempt.
        artifacts: The files of the videos.
        config: The configuration.
        model_info: For each role, has its deployment load a model, and returns its weights and class names.
    """

    def __init__(
        self,
        job: Job,
        artifacts: ArtifactStore,
        config: Config,
        model_info: Mapping[str, Callable[[Names], Awaitable[ModelInfo]]],
    ) -> None:
        self._job = job
        self._path = artifacts.results(job.id)
        self._store = CheckpointStore(artifacts, job.id, config)
        self._model_info = model_info

    async def load(self) -> Checkpoint | None:
        """Return the checkpoint of an earlier attempt; None if the video starts at its first frame.

        Raises:
            Exception: An error of the deployments, except that a model is not available any more.
        """
        if not self._job.attempt:
            return None
        try:
            checkpoint = await asyncio.to_thread(self._store.load)
            if checkpoint is not None:
                await self._check_weights(checkpoint)
        except (UnfitCheckpoint, WeightsUnavailable) as error:
            self.log_unusable(error)
            return None
        return checkpoint

    def log_unusable(self, reason: Exception) -> None:
        """Log why a checkpoint is not used."""
        extra = {"video_id": self._job.id, "frame": 0, "attempt": self._job.attempt}
        logger.warning("the video restarts at its first frame, its checkpoint cannot be used: %s", reason, extra=extra)

    async def open_results(
        self, checkpoint: Checkpoint | None, class_names: Mapping[int, str], confirm: Callable[[], Awaitable[None]]
    ) -> ResultWriter:
        """Open the result file at the end of the checkpoint. An earlier attempt that is still alive cannot write to it.

        Args:
            checkpoint: The checkpoint; None for a video that starts at its first frame.
            class_names: Name of each class index.
            confirm: Raises if another session has the video; called right before the file is changed.

        Raises:
            Superseded: Another session has the video.
            InvalidData: The file does not match the checkpoint.
            OSError: The file cannot be written.
        """
        start = checkpoint or Checkpoint()
        if self._job.attempt:
            # first: if this session is lost now, the next one must not use an older checkpoint with this file
            await asyncio.to_thread(self._store.save, self._job.attempt, start)
            await confirm()
            await asyncio.to_thread(truncate_results, self._path, start.bytes_written)
            await asyncio.to_thread(self._store.remove, self._job.attempt)
        else:
            await confirm()
        return await asyncio.to_thread(ResultWriter, self._path, class_names, start.frames_written)

    async def save(self, checkpoint: Checkpoint, results: ResultWriter, frame: int) -> bool:
        """Save a checkpoint and return whether it was written; if not, more work is repeated after a loss.

        Args:
            checkpoint: The checkpoint.
            results: The result file, whose length is that in the checkpoint.
            frame: Frames tracked, for the log.
        """
        started = time.monotonic()
        extra = {"video_id": self._job.id, "frame": frame}
        try:
            await asyncio.to_thread(results.sync)
            size = await asyncio.to_thread(self._store.save, self._job.attempt, checkpoint)
        except OSError as error:
            logger.error("no checkpoint could be written: %s", error, extra=extra)
            return False
        seconds = round(time.monotonic() - started, 3)
        logger.debug("checkpoint written", extra={**extra, "bytes": size, "seconds": seconds})
        return True

    def remove_checkpoints(self) -> None:
        """Remove all checkpoints, because the video is done or failed. Deleting the video removes any that remain."""
        try:
            self._store.remove(self._job.attempt + 1)
        except OSError as error:
            logger.warning("the checkpoints could not be removed: %s", error, extra={"video_id": self._job.id})

    async def _check_weights(self, checkpoint: Checkpoint) -> None:
        """Check that the models of a checkpoint are available and unchanged.

        Raises:
            UnfitCheckpoint: A name stands for other weights now.
            WeightsUnavailable: A model is not available.
        """
        for role, saved in checkpoint.weights.items():
            current = (await self._model_info[role](checkpoint.names[role])).weights
            if current["sha256"] != saved["sha256"]:
                raise UnfitCheckpoint(f"it was made with {role} {saved['name']}, which is {current['name']} now")
