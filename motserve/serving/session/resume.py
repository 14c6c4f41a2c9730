"""How a session goes on where an earlier one of the same video was, and leaves behind what the next one needs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from motserve.config import Config
from motserve.errors import UnfitCheckpoint, WeightsUnavailable
from motserve.results import ResultWriter, keep_beginning
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
        ask: Asks the deployment of a role what a model is, which loads it.
    """

    def __init__(
        self,
        job: Job,
        artifacts: ArtifactStore,
        config: Config,
        ask: Mapping[str, Callable[[Names], Awaitable[ModelInfo]]],
    ) -> None:
        self._job = job
        self._path = artifacts.results(job.id)
        self._store = CheckpointStore(artifacts, job.id, config)
        self._ask = ask

    async def last(self) -> Checkpoint | None:
        """Return what an earlier attempt has left; None where the video begins at its first frame.

        Raises:
            Exception: Whatever the deployments raise, but for models that are not to be had any more.
        """
        if not self._job.attempt:
            return None
        try:
            found = await asyncio.to_thread(self._store.load)
            if found is not None:
                await self._check_weights(found)
        except (UnfitCheckpoint, WeightsUnavailable) as error:
            self.start_over(error)
            return None
        return found

    def start_over(self, reason: Exception) -> None:
        """Say why a checkpoint is not used."""
        extra = {"video_id": self._job.id, "frame": 0, "attempt": self._job.attempt}
        logger.warning("the video begins anew, its checkpoint is of no use: %s", reason, extra=extra)

    async def open_results(
        self, resumed: Checkpoint | None, class_names: Mapping[int, str], confirm: Callable[[], Awaitable[None]]
    ) -> ResultWriter:
        """Open the result file where it is to go on. An earlier attempt that is alive after all does not write to it.

        Args:
            resumed: The checkpoint; None for a video that begins at its first frame.
            class_names: Name of each class index.
            confirm: Raises where the video is another session's by now; asked right before the file is touched.

        Raises:
            Superseded: It is another session's.
            InvalidData: The file does not hold what the checkpoint says.
            OSError: It cannot be written.
        """
        kept = resumed or Checkpoint()
        if self._job.attempt:
            # first: should this session be lost now, the next must not take an older checkpoint for one of this file
            await asyncio.to_thread(self._store.save, self._job.attempt, kept)
            await confirm()
            await asyncio.to_thread(keep_beginning, self._path, kept.bytes_written)
            await asyncio.to_thread(self._store.remove, self._job.attempt)
        else:
            await confirm()
        return await asyncio.to_thread(ResultWriter, self._path, class_names, kept.frames_written)

    async def save(self, checkpoint: Checkpoint, results: ResultWriter, frame: int) -> bool:
        """Leave a checkpoint and return whether that could be done: without, more is done again after a loss.

        Args:
            checkpoint: The checkpoint.
            results: The result file, which is as long as the checkpoint says.
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

    def end(self) -> None:
        """Remove the checkpoints: the video is done or has failed. Those that stay go with the video."""
        try:
            self._store.remove(self._job.attempt + 1)
        except OSError as error:
            logger.warning("the checkpoints could not be removed: %s", error, extra={"video_id": self._job.id})

    async def _check_weights(self, checkpoint: Checkpoint) -> None:
        """See that a checkpoint's models are to be had again, and no others under their names.

        Raises:
            UnfitCheckpoint: There are others in their place.
            WeightsUnavailable: They are not to be had.
        """
        for role, had in checkpoint.weights.items():
            there = (await self._ask[role](checkpoint.names[role])).weights
            if there["sha256"] != had["sha256"]:
                raise UnfitCheckpoint(f"it was made with {role} {had['name']}, and in its place is {there['name']} now")
