"""The actor that tracks one video: it decodes, calls detector and embedder, tracks, and appends the results.

It runs no network and imports no torch, so a session is small. When the video is done, failed or deleted, the actor
ends; the row in the job store and the result file remain. At intervals it writes a checkpoint, from which another
session resumes if this one is lost, or if its node is drained.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any

import cv2
import ray
from ray.serve.handle import DeploymentHandle

from motserve.base import merge_states, substate
from motserve.config import Config
from motserve.config.base import Role
from motserve.config.logs import setup_logging
from motserve.errors import DiskFull, InvalidVideo, MotserveError
from motserve.people.identity_store import IdentityStore
from motserve.people.identity_summaries import IdentitySummaries
from motserve.people.model_key import model_key
from motserve.pipeline import PipelineStats, VideoTracker, track_frames_with
from motserve.results import ResultWriter
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.model_cache import Names
from motserve.serving.inference.replica import ModelInfo
from motserve.serving.observability.metrics import STALE, Ending, VideoGauges
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.observability.tracing import Tracing
from motserve.serving.periodic import repeat
from motserve.serving.session.checkpoint import Checkpoint
from motserve.serving.session.detector_switch import DetectorSwitch
from motserve.serving.session.lease import Lease, Superseded
from motserve.serving.session.model_client import ModelClient
from motserve.serving.session.nodes import is_draining
from motserve.serving.session.remember import forget, remember
from motserve.serving.session.resume import Continuation
from motserve.serving.session.retry import Retry
from motserve.serving.stores import ArtifactStore, Job, JobStore
from motserve.serving.stores.room import as_disk_full, require_reserve
from motserve.types import EmbeddedCrops
from motserve.video import VideoSource, open_video

logger = logging.getLogger("motserve.session")

_PROGRESS_INTERVAL_S = 0.5  # between two writes of progress to the job store; clients poll no faster


class _HandedOver(Exception):
    """The session released the video, so that another session resumes it on another node."""


class VideoSession:
    """Tracks one video, from its first frame or a checkpoint to its last; `SessionLauncher` makes it an actor.

    Args:
        job: The video and the attempt of this session.
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        detector: Handle of the detector deployment.
        embedder: Handle of the embedder deployment.
        metrics_collector: Handle of the deployment that collects the metrics of all videos.
        context: The request that posted the video.
    """

    def __init__(
        self,
        job: Job,
        config: Config,
        deployment: str,
        detector: DeploymentHandle[Any],
        embedder: DeploymentHandle[Any],
        metrics_collector: DeploymentHandle[Any],
        context: RequestContext,
    ) -> None:
        setup_logging(config.logging)
        cv2.setNumThreads(1)  # crops are small, and the networks need the cores
        self._job = job
        self._config = config
        self._active_models = ActiveModels(config.serving.storage_dir, deployment)
        self._models: dict[str, Any] = {}
        self._artifacts = ArtifactStore(config.serving.storage_dir)
        self._lease = Lease(JobStore(config.serving.storage_dir), job, config.serving.session, is_draining)
        identities = config.serving.identities
        indexed = identities.enabled and config.reid.policy != "off"
        self._summaries = IdentitySummaries(identities) if indexed else None
        self._identities = IdentityStore(config.serving.storage_dir, identities.max_identities) if indexed else None
        self._context = context
        self._tracing = Tracing(config.serving.tracing, "motserve-session")
        gauges = VideoGauges(job.id) if config.serving.metrics.per_video else None
        self._telemetry = Telemetry(job.id, metrics_collector.record.remote, gauges, self._tracing)
        retry = Retry(config.serving.session, self._telemetry.count_retry, lambda: self._frames)
        self._client = ModelClient(detector, embedder, retry, self._current_context)
        model_info = {"detector": self._client.detector_info, "reid": self._client.embedder_info}
        self._continuation = Continuation(job, self._artifacts, config, model_info)
        self._progress = asyncio.Condition()
        self._source: VideoSource | None = None
        self._frames = 0
        self._finished = False
        self._running = False

    async def run(self) -> None:
        """Track the whole video, write the outcome to the job store, and end the actor.

        A second call does nothing: a launcher may not know that the first one arrived.
        """
        if self._running:
            return
        self._running = True
        extra = {"video_id": self._job.id, "attempt": self._job.attempt}
        ending: Ending | None = None
        self._telemetry.report()
        with self._context.logged():
            try:
                with self._tracing.span("session", "internal", self._context.trace, self._context.span_attributes):
                    ending = await self._track_under_lease()
            except _HandedOver:
                logger.info("video handed over", extra={**extra, "frame": self._frames})
            except Superseded as error:  # row and files of the video belong to another session now
                logger.warning("the session stops: %s", error, extra={**extra, "frame": self._frames})
            else:
                await self._notify_progress(finished=True)
            finally:
                await self._shut_down(ending)

    async def _shut_down(self, ending: Ending | None) -> None:
        try:
            self._telemetry.export_gauges()
            await self._telemetry.end(ending)
            await asyncio.to_thread(self._tracing.flush)
        finally:
            # An orderly exit waits most of a minute for the threads of the Serve handles; everything is written by now.
            # This is in `finally`, because an actor that is alive counts as a session.
            ray.kill(ray.get_runtime_context().current_actor)

    async def _export_gauges(self) -> None:
        self._telemetry.export_gauges()

    async def wait_for_frames(self, num_frames: int) -> bool:
        """Wait until the result file is complete or has more than `num_frames` frames; return if it is complete."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._finished or self._frames > num_frames)
        return self._finished

    async def _track_under_lease(self) -> Ending:
        work = asyncio.create_task(self._track_or_fail())
        lease = asyncio.create_task(self._lease.keep())
        gauges = asyncio.create_task(repeat(self._export_gauges, self._config.serving.metrics.refresh_s, logger, STALE))
        try:
            await asyncio.wait({work, lease}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await lease  # it raises if the lease was lost, and returns if the lease has ended
            return await work
        finally:
            for task in (work, lease, gauges):
                task.cancel()
            await asyncio.gather(work, lease, gauges, return_exceptions=True)

    async def _track_or_fail(self) -> Ending:
        try:
            await self._track()
        except (Superseded, _HandedOver):
            raise
        except MotserveError as error:
            await self._fail(error, str(error))
        except Exception as error:
            logger.exception("video failed", extra={"video_id": self._job.id, "frame": self._frames})
            full = as_disk_full(error, self._frames)
            await self._fail(full or error, str(full or f"tracking stopped after frame {self._frames}: {error}"))
        else:
            return "done"
        return "failed"

    async def _track(self) -> None:
        job = self._job
        await require_reserve(self._config, 0)
        checkpoint = await self._continuation.load()
        detector, detector_switch = await self._load_models(checkpoint)
        source = await asyncio.to_thread(open_video, job.source, self._config.video, job.name)
        self._source = source
        with source:
            video_tracker, stats, checkpoint = self._restore(source, checkpoint, detector_switch)
            # a superseded session must not touch the result file of its successor
            confirm = partial(self._lease.write_with_retry, self._lease.write)
            with await self._continuation.open_results(checkpoint, detector.class_names, confirm) as results:
                await confirm(
                    status="running",
                    models=self._models,
                    classes={str(index): name for index, name in detector.class_names.items()},
                    video=asdict(source.info),
                    frames_total=source.info.frame_count,
                )
                extra = {"video_id": job.id, "frame": stats.frames, "attempt": job.attempt}
                logger.info("session started", extra=extra)
                seconds = await self._track_frames(source, video_tracker, stats, results, detector_switch, checkpoint)
        await self._finish(stats, seconds)

    async def _load_models(self, checkpoint: Checkpoint | None) -> tuple[ModelInfo, DetectorSwitch]:
        """Load the models of the checkpoint, or those that new videos get."""
        names = await self._names("detector", checkpoint)
        detector = await self._client.detector_info(names)
        enabled = self._config.serving.reload.running_videos == "switch"
        detector_switch = DetectorSwitch(
            self._active_models, names, detector, self._client.detector_info, enabled, self._job.id
        )
        self._models = {"detector": detector.weights, "reid": None, "switches": detector_switch.switches}
        if self._config.needs_embeddings:
            self._client.embedder_names = await self._names("reid", checkpoint)
            self._models["reid"] = (await self._client.embedder_info(self._client.embedder_names)).weights
        return detector, detector_switch

    def _restore(
        self, source: VideoSource, checkpoint: Checkpoint | None, detector_switch: DetectorSwitch
    ) -> tuple[VideoTracker, PipelineStats, Checkpoint | None]:
        """Return tracker and counters in the state of a checkpoint, and the checkpoint; None if it was not used."""
        stats = PipelineStats()
        video_tracker = self._make_tracker(source, stats)
        if checkpoint is not None and not self._load_state(video_tracker, checkpoint):
            stats, checkpoint = PipelineStats(), None
            video_tracker = self._make_tracker(source, stats)
        if checkpoint is not None:
            detector_switch.resume(stats.frames, checkpoint.models["switches"])
            self._models["detector"] = checkpoint.models["detector"]
            self._frames = checkpoint.frames_written
        return video_tracker, stats, checkpoint

    async def _finish(self, stats: PipelineStats, seconds: float) -> None:
        """Add the people of the video to the index, and mark the video as done."""
        if self._summaries is not None and self._identities is not None:
            model = model_key(self._models["reid"], self._config.reid)
            await asyncio.to_thread(remember, self._identities, self._job.id, model, self._summaries, logger)
        await self._lease.write_with_retry(self._lease.write, status="done", **self._progress_of(stats, seconds))
        await asyncio.to_thread(self._continuation.remove_checkpoints)
        logger.info("session done", extra={"video_id": self._job.id, "frame": stats.frames})

    async def _names(self, role: Role, checkpoint: Checkpoint | None) -> Names:
        """Return the model names in the checkpoint, or those that new videos get."""
        if checkpoint is not None:
            return checkpoint.names[role]
        return await asyncio.to_thread(self._active_models.names, role, self._config)

    def _make_tracker(self, source: VideoSource, stats: PipelineStats) -> VideoTracker:
        info = source.info
        on_embedded = self._on_embedded if self._summaries is not None else None
        return VideoTracker(self._config, stats, info.rate_hz, (info.width, info.height), on_embedded)

    async def _track_frames(
        self,
        source: VideoSource,
        video_tracker: VideoTracker,
        stats: PipelineStats,
        results: ResultWriter,
        detector_switch: DetectorSwitch,
        checkpoint: Checkpoint | None,
    ) -> float:
        """Track to the end of the video; return the seconds of work, including those of earlier attempts."""
        self._telemetry.start(stats, source.info.frame_count)
        started = time.monotonic() - (checkpoint.seconds if checkpoint else 0.0)
        reported_at = saved_at = time.monotonic()
        interval = self._config.serving.session.checkpoint_s
        frames = source.frames(stats.frames)
        detect = partial(self._client.detect, detector_switch)
        tracked = track_frames_with(
            frames, detect, self._client.embed, self._config, video_tracker, observer=self._telemetry
        )
        async with aclosing(tracked) as chunks:
            async for chunk in chunks:
                with self._telemetry.write():
                    results.append(chunk)
                self._frames += len(chunk)
                await self._notify_progress(finished=False)
                now = time.monotonic()
                if now - reported_at >= _PROGRESS_INTERVAL_S:
                    reported_at = now
                    await self._report(stats, now - started)
                    self._telemetry.report()
                    await require_reserve(self._config, self._frames)
                if interval and video_tracker.is_idle and (self._lease.draining or now - saved_at >= interval):
                    snapshot = self._snapshot(video_tracker, results, detector_switch, stats.frames, now - started)
                    written = await self._continuation.save(snapshot, results, stats.frames)
                    saved_at = time.monotonic()
                    if written and self._lease.draining:
                        await self._lease.write_with_retry(self._lease.release)
                        raise _HandedOver
        return time.monotonic() - started

    def _snapshot(
        self,
        video_tracker: VideoTracker,
        results: ResultWriter,
        detector_switch: DetectorSwitch,
        frame: int,
        seconds: float,
    ) -> Checkpoint:
        names, weights, switches = detector_switch.at(frame)
        embedder = self._models["reid"]
        states = {"video_tracker": video_tracker.state_dict()}
        if self._summaries is not None:
            states["identity_summaries"] = self._summaries.state_dict()
        return Checkpoint(
            frames_written=self._frames,
            bytes_written=results.size,
            seconds=seconds,
            names={"detector": names, "reid": self._client.embedder_names},
            weights={"detector": weights} | ({"reid": embedder} if embedder else {}),
            models={**self._models, "switches": switches},
            state=merge_states(**states),
        )

    def _load_state(self, video_tracker: VideoTracker, checkpoint: Checkpoint) -> bool:
        """Load tracker and identity summaries from a checkpoint; return whether it fits."""
        try:
            video_tracker.load_state_dict(substate(checkpoint.state, "video_tracker"))
            if self._summaries is not None:
                self._summaries.load_state_dict(substate(checkpoint.state, "identity_summaries"))
        except ValueError as error:
            self._continuation.log_unusable(error)
            return False
        return True

    def _on_embedded(self, crops: EmbeddedCrops) -> None:
        if self._summaries is not None:
            self._summaries.add(
                crops.identities, crops.embeddings, crops.crops, crops.boxes, crops.scores, crops.timestamp
            )

    def _current_context(self) -> RequestContext:
        return RequestContext.current(self._tracing.headers(), self._job.id)

    def _progress_of(self, stats: PipelineStats, seconds: float) -> dict[str, Any]:
        return {
            "models": self._models,
            "frames_done": stats.frames,
            "frames_damaged": self._frames_damaged,
            "fps": round(stats.frames / max(seconds, 1e-9), 2),
            "identities": stats.identities,
            "embeddings": stats.embeddings,
            "links": stats.links,
        }

    @property
    def _frames_damaged(self) -> int:
        return self._source.frames_damaged if self._source else 0

    async def _report(self, stats: PipelineStats, seconds: float) -> None:
        """Write progress to the job store. A failing store is only logged, because the next report repeats it.

        Raises:
            Superseded: Another session has the video.
        """
        try:
            await asyncio.to_thread(self._lease.write, status="running", **self._progress_of(stats, seconds))
        except sqlite3.Error as error:  # the lease decides when a failing store ends the session
            extra = {"video_id": self._job.id, "frame": stats.frames}
            logger.warning("progress could not be written: %s", error, extra=extra)

    async def _fail(self, error: BaseException, message: str) -> None:
        """Write to the job store why the video failed. Its tracks stay; an invalid video without tracks is deleted.

        Raises:
            Superseded: Another session has the video.
        """
        failure = {"type": type(error).__name__, "message": message}
        progress = {"frames_done": self._frames, "frames_damaged": self._frames_damaged}
        if isinstance(error, DiskFull):
            await asyncio.to_thread(
                self._continuation.remove_checkpoints
            )  # first: removing checkpoints makes room for the row
        await self._lease.write_with_retry(self._lease.write, status="failed", error=failure, **progress)
        logger.error("video failed: %s", message, extra={"video_id": self._job.id, "frame": self._frames})
        if isinstance(error, InvalidVideo) and not self._frames:
            await asyncio.to_thread(self._artifacts.delete, self._job.id)
        await asyncio.to_thread(self._continuation.remove_checkpoints)
        if self._identities is not None:
            await asyncio.to_thread(forget, self._identities, self._job.id, logger)

    async def _notify_progress(self, finished: bool) -> None:
        async with self._progress:
            self._finished = finished
            self._progress.notify_all()
