"""Tracks one video under a lease: opens it, restores its checkpoint, runs the pipeline, and records the outcome.

Everything it works with is passed in, so it runs as well without Ray.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import aclosing
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

from motserve.base import State, merge_states, substate
from motserve.config import Config
from motserve.errors import DiskFull, InvalidVideo, MotserveError
from motserve.pipeline.loop import track_frames_with
from motserve.pipeline.movement import SILENCE, watch_bundled
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import VideoTracker
from motserve.results import ResultWriter
from motserve.serving.observability.metrics import STALE, Ending
from motserve.serving.observability.progress import Progress
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.periodic import cancel_all, repeat
from motserve.serving.session.checkpoint import Checkpoint
from motserve.serving.session.disk_wait import DiskWait
from motserve.serving.session.lease import Lease, Superseded
from motserve.serving.session.memory_limit import MemoryLimit
from motserve.serving.session.resume import Continuation
from motserve.serving.session.video_identities import VideoIdentities
from motserve.serving.session.video_models import VideoModels
from motserve.serving.stores import ArtifactStore, Job, as_disk_full
from motserve.video import VideoSource, open_video

logger = logging.getLogger("motserve.session")

_REPORT_INTERVAL_S: Final = 0.5  # clients poll no faster


class _HandedOver(Exception):
    """The session released the video, so that another session resumes it on another node."""


class VideoSession:
    """One attempt to track a video, from its first frame or a checkpoint to its last.

    Args:
        job: The video and the attempt of this session.
        config: The configuration, paths absolute.
        artifacts: The files of the videos.
        lease: The exclusive right to write to the video.
        models: Detector and embedder of the video.
        continuation: Its checkpoints and result file.
        identities: The people of the video; None if they are not indexed.
        progress: The progress, which the session writes.
        telemetry: Counts and measures the work.
        memory: Fails the video when this process uses too much memory.
        report_interval_s: Seconds between two writes of the progress to the job store. Lower values show it earlier and
            write more.
    """

    def __init__(
        self,
        job: Job,
        config: Config,
        *,
        artifacts: ArtifactStore,
        lease: Lease,
        models: VideoModels,
        continuation: Continuation,
        identities: VideoIdentities | None,
        progress: Progress,
        telemetry: Telemetry,
        memory: MemoryLimit,
        report_interval_s: float = _REPORT_INTERVAL_S,
    ) -> None:
        self._job = job
        self._config = config
        self._artifacts = artifacts
        self._lease = lease
        self._models = models
        self._continuation = continuation
        self._identities = identities
        self._progress = progress
        self._telemetry = telemetry
        self._report_interval_s = report_interval_s
        self._disk = DiskWait(config, progress, self._extra)
        self._memory = memory

    async def run(self) -> Ending | None:
        """Track the video and write the outcome to the job store.

        Returns:
            How the video ended; None if another session has the video or will resume it.
        """
        try:
            ending = await self._run_under_lease()
        except _HandedOver:
            logger.info("video handed over", extra=self._extra())
        except Superseded as error:  # row and files of the video belong to another session now
            logger.warning("the session stops: %s", error, extra=self._extra())
        else:
            await self._progress.finish()
            return ending
        return None

    async def _run_under_lease(self) -> Ending:
        async def export_gauges() -> None:
            self._telemetry.export_gauges()

        work = asyncio.create_task(self._track_or_fail())
        lease = asyncio.create_task(self._lease.keep())
        gauges = asyncio.create_task(repeat(export_gauges, self._config.serving.metrics.refresh_s, logger, STALE))
        try:
            await asyncio.wait({work, lease}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await lease  # it raises if the lease was lost, and returns if the lease has ended
            return await work
        finally:
            await cancel_all(work, lease, gauges)

    async def _track_or_fail(self) -> Ending:
        try:
            await self._memory.run(self._track())
        except (Superseded, _HandedOver):
            raise
        except MotserveError as error:
            await self._fail(error, str(error))
        except Exception as error:
            logger.exception("video failed", extra=self._extra())
            frames = self._progress.frames_written
            full = as_disk_full(error, frames)
            await self._fail(full or error, str(full or f"tracking stopped after frame {frames}: {error}"))
        else:
            return "done"
        return "failed"

    async def _track(self) -> None:
        await self._disk.reserve()
        checkpoint = await self._continuation.load(self._models.check)
        await self._models.load(checkpoint)
        with await asyncio.to_thread(open_video, self._job.source, self._config.video, self._job.name) as source:
            self._progress.open(source)
            video_tracker, checkpoint = self._restore(source, checkpoint)
            # a superseded session must not touch the result file of its successor
            with await self._continuation.open_results(checkpoint, self._models.class_names, self._confirm) as results:
                await self._confirm(
                    status="running",
                    models=self._models.describe(),
                    classes={str(index): name for index, name in self._models.class_names.items()},
                    video=asdict(source.info),
                    frames_total=source.info.frame_count,
                )
                logger.info("session started", extra=self._extra())
                self._progress.start(checkpoint.seconds if checkpoint else 0.0)
                await self._run(source, video_tracker, results)
                await asyncio.to_thread(results.check)
                outcome = self._row()
        await self._finish(outcome)

    def _restore(self, source: VideoSource, checkpoint: Checkpoint | None) -> tuple[VideoTracker, Checkpoint | None]:
        """Return the tracker in the state of a checkpoint, and the checkpoint; None if it was not used."""
        video_tracker = self._make_tracker(source)
        if checkpoint is None:
            return video_tracker, None
        try:
            video_tracker.load_state_dict(substate(checkpoint.state, "video_tracker"))
            if self._identities is not None:
                self._identities.load_state_dict(substate(checkpoint.state, "identity_summaries"))
        except ValueError as error:
            self._continuation.log_unusable(error)
            self._progress.stats = PipelineStats()
            return self._make_tracker(source), None
        self._models.resume(self._progress.stats.frames, checkpoint)
        self._progress.frames_written = checkpoint.frames_written
        return video_tracker, checkpoint

    def _make_tracker(self, source: VideoSource) -> VideoTracker:
        info = source.info
        on_embedded = None if self._identities is None else self._identities.add
        return VideoTracker(self._config, self._progress.stats, info.rate_hz, (info.width, info.height), on_embedded)

    async def _run(self, source: VideoSource, video_tracker: VideoTracker, results: ResultWriter) -> None:
        """Track to the end of the video, and append the tracks to the result file."""
        progress, telemetry = self._progress, self._telemetry
        telemetry.start()
        reported_at = saved_at = progress.seconds
        interval_s = self._config.serving.session.checkpoint_s
        frames = source.frames(progress.stats.frames)
        watch = watch_bundled(self._models.describe()["detector"], self._config.pipeline, self._warn_of_silence)
        tracked = track_frames_with(
            frames,
            self._models.detect,
            self._models.embed,
            self._config,
            video_tracker,
            observer=telemetry,
            watch=watch,
        )
        async with aclosing(tracked) as chunks:
            async for chunk in chunks:
                with telemetry.write():
                    await self._disk.write(partial(results.append, chunk))
                await progress.add_written(len(chunk))
                now = progress.seconds
                if now - reported_at >= self._report_interval_s:
                    reported_at = now
                    await self._report()
                    telemetry.report()
                    await asyncio.to_thread(results.check)
                    await self._disk.reserve()
                if interval_s and video_tracker.is_idle and (self._lease.draining or now - saved_at >= interval_s):
                    written = await self._continuation.save(self._checkpoint(video_tracker, results), results)
                    saved_at = progress.seconds
                    if written and self._lease.draining:
                        await self._lease.write_with_retry(self._lease.release)
                        raise _HandedOver

    def _warn_of_silence(self, frame: int, seconds: float) -> None:
        logger.warning(SILENCE, seconds, extra={**self._extra(), "frame": frame})

    def _checkpoint(self, video_tracker: VideoTracker, results: ResultWriter) -> Checkpoint:
        states: dict[str, State] = {"video_tracker": video_tracker.state_dict()}
        if self._identities is not None:
            states["identity_summaries"] = self._identities.state_dict()
        return replace(
            self._models.checkpoint(self._progress.stats.frames),
            frames_written=self._progress.frames_written,
            bytes_written=results.size,
            seconds=self._progress.seconds,
            state=merge_states(**states),
        )

    async def _finish(self, row: dict[str, Any]) -> None:
        """Add the people of the video to the index, and mark the video as done, with its last progress."""
        if self._identities is not None and self._models.embedder is not None:
            await asyncio.to_thread(self._identities.store, self._models.embedder)
        await self._confirm(status="done", **row)
        await asyncio.to_thread(self._continuation.remove_checkpoints)
        logger.info("session done", extra=self._extra())

    async def _fail(self, error: BaseException, message: str) -> None:
        """Write to the job store why the video failed. Its tracks stay; an invalid video without tracks is deleted.

        Raises:
            Superseded: Another session has the video.
        """
        progress = self._progress
        failure = {"type": type(error).__name__, "message": message}
        if isinstance(error, DiskFull):  # first: removing checkpoints makes room for the row
            await asyncio.to_thread(self._continuation.remove_checkpoints)
        counts = {"frames_done": progress.frames_written, "frames_damaged": progress.frames_damaged}
        await self._confirm(status="failed", error=failure, **counts)
        logger.error("video failed: %s", message, extra=self._extra())
        if isinstance(error, InvalidVideo) and not progress.frames_written:
            await asyncio.to_thread(self._artifacts.delete, self._job.id)
        await asyncio.to_thread(self._continuation.remove_checkpoints)
        if self._identities is not None:
            await asyncio.to_thread(self._identities.remove)

    async def _confirm(self, **changes: Any) -> None:
        """Change columns of the job, and retry for a while; without changes, check that the video is still ours.

        Raises:
            Superseded: Another session has the video, or may have it.
        """
        with self._progress.waiting():
            await self._lease.write_with_retry(self._lease.write, **changes)

    async def _report(self) -> None:
        """Write progress to the job store. A failing store is only logged, because the next report repeats it.

        A store that is locked or away does not hold up the tracking: until a heartbeat reaches it, nothing is reported.

        Raises:
            Superseded: Another session has the video.
        """
        if not self._lease.store_answers:
            return
        try:
            await asyncio.to_thread(self._lease.write, status="running", **self._row())
        except sqlite3.Error as error:  # the lease decides when a failing store ends the session
            logger.warning("progress could not be written: %s", error, extra=self._extra())

    def _row(self) -> dict[str, Any]:
        return {"models": self._models.describe(), **self._progress.row()}

    def _extra(self) -> dict[str, Any]:
        """Return what each log line of the session carries."""
        frame = self._progress.frames_written
        return {"video_id": self._job.id, "attempt": self._job.attempt, "frame": frame}
