"""Resumes a session where an earlier one of the same video stopped, and saves what the next one needs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from motserve.config import Config
from motserve.errors import UnfitCheckpoint, WeightsUnavailable
from motserve.results import ResultWriter, truncate_results
from motserve.serving.session.checkpoint import Checkpoint, CheckpointStore
from motserve.serving.stores import ArtifactStore, Job

logger = logging.getLogger("motserve.session")


class Continuation:
    """The checkpoints and the result file of one attempt.

    Args:
        job: The video and the attempt.
        artifacts: The files of the videos.
        config: The configuration.
    """

    def __init__(self, job: Job, artifacts: ArtifactStore, config: Config) -> None:
        self._job = job
        self._path = artifacts.results(job.id)
        self._store = CheckpointStore(artifacts, job.id, config)

    async def load(self, check: Callable[[Checkpoint], Awaitable[None]]) -> Checkpoint | None:
        """Return the checkpoint of an earlier attempt; None if the video starts at its first frame.

        Args:
            check: Raises if the models of a checkpoint are not available, or have changed.

        Raises:
            Exception: An error of the deployments, except that a model is not available any more.
        """
        if not self._job.attempt:
            return None
        try:
            checkpoint = await asyncio.to_thread(self._store.load)
            if checkpoint is not None:
                await check(checkpoint)
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

    async def save(self, checkpoint: Checkpoint, results: ResultWriter) -> bool:
        """Save a checkpoint and return whether it was written; if not, more work is repeated after a loss.

        Args:
            checkpoint: The checkpoint.
            results: The result file, whose length is that in the checkpoint.
        """
        started = time.monotonic()
        extra = {"video_id": self._job.id, "frame": checkpoint.frames_written}
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
