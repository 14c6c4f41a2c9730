"""The actor that follows one video: it decodes, asks detector and embedder, tracks, and appends the results.

It runs no network and imports no torch, so a session is small. When the video is done, failed or deleted, the actor
is gone; what is left is the row in the job store and the result file. Now and then it leaves a checkpoint, from which
another session goes on where this one is lost, or leaves a machine that is to be taken away.
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
from motserve.serving.session.nodes import is_draining
from motserve.serving.session.remember import forget, remember
from motserve.serving.session.resume import Continuation
from motserve.serving.session.retry import Retry
from motserve.serving.stores import ArtifactStore, Job, JobStore
from motserve.serving.stores.room import as_disk_full, require_reserve
from motserve.types import EmbeddedCrops
from motserve.video import VideoSource, open_video

logger = logging.getLogger("motserve.session")

_PROGRESS_INTERVAL_S = 0.5  # a row in the job store is written no more often than anybody polls it


class _HandedOver(Exception):
    """The video was given back for another machine."""


class VideoSession:
    """Tracks one video, from its first frame or a checkpoint to its last; `SessionLauncher` makes it an actor.

    Args:
        job: The video and the attempt that this session is.
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        detector: Handle of the detector deployment.
        embedder: Handle of the embedder deployment.
        monitor: Handle of the deployment that counts.
        origin: The request that brought the video.
    """

    def __init__(
        self,
        job: Job,
        config: Config,
        deployment: str,
        detector: DeploymentHandle[Any],
        embedder: DeploymentHandle[Any],
        monitor: DeploymentHandle[Any],
        origin: RequestContext,
    ) -> None:
        setup_logging(config.logging)
        cv2.setNumThreads(1)  # crops are small, and the cores belong to the networks
        self._job = job
        self._config = config
        self._detector = detector
        self._embedder = embedder
        self._served = ActiveModels(config.serving.storage_dir, deployment)
        self._embedder_names: Names = ()
        self._models: dict[str, Any] = {}
        self._artifacts = ArtifactStore(config.serving.storage_dir)
        self._lease = Lease(JobStore(config.serving.storage_dir), job, config.serving.session, is_draining)
        asked = {"detector": self._ask_detector, "reid": self._ask_embedder}
        self._continuation = Continuation(job, self._artifacts, config, asked)
        identities = config.serving.identities
        remembers = identities.enabled and config.reid.policy != "off"
        self._book = IdentitySummaries(identities) if remembers else None
        self._identities = IdentityStore(config.serving.storage_dir, identities.max_identities) if remembers else None
        self._origin = origin
        self._tracing = Tracing(config.serving.tracing, "motserve-session")
        gauges = VideoGauges(job.id) if config.serving.metrics.per_video else None
        self._activity = Telemetry(job.id, monitor.record.remote, gauges, self._tracing)
        self._asking = Retry(config.serving.session, self._activity.repeated, lambda: self._frames)
        self._progress = asyncio.Condition()
        self._source: VideoSource | None = None
        self._frames = 0
        self._finished = False
        self._running = False

    async def run(self) -> None:
        """Track the whole video. Whatever happens ends up in the job store; then the actor leaves.

        It may be called again, by whoever does not know that it was.
        """
        if self._running:
            return
        self._running = True
        extra = {"video_id": self._job.id, "attempt": self._job.attempt}
        ending: Ending | None = None
        self._activity.report()
        with self._origin.logged():
            try:
                with self._tracing.span("session", "internal", self._origin.trace, self._origin.about):
                    ending = await self._track_while_ours()
            except _HandedOver:
                logger.info("video handed over", extra={**extra, "frame": self._frames})
            except Superseded as error:  # whoever has the video now, its row and its files are theirs
                logger.warning("the session stops: %s", error, extra={**extra, "frame": self._frames})
            else:
                await self._tell(finished=True)
            finally:
                await self._leave(ending)

    async def _leave(self, ending: Ending | None) -> None:
        try:
            self._activity.show()
            await self._activity.end(ending)
            await asyncio.to_thread(self._tracing.flush)
        finally:
            # An orderly exit waits most of a minute for the threads of the Serve handles; everything is written by now.
            # Whatever went wrong, an actor that does nothing must not pass for a session.
            ray.kill(ray.get_runtime_context().current_actor)

    async def _show(self) -> None:
        self._activity.show()

    async def follow(self, frames_seen: int) -> bool:
        """Wait until more than `frames_seen` frames are in the result file; return whether they are the last."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._finished or self._frames > frames_seen)
        return self._finished

    async def _track_while_ours(self) -> Ending:
        work = asyncio.create_task(self._track_or_fail())
        hold = asyncio.create_task(self._lease.keep())
        show = asyncio.create_task(repeat(self._show, self._config.serving.metrics.refresh_s, logger, STALE))
        try:
            await asyncio.wait({work, hold}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await hold  # it raises where the lease was lost, and returns where it is needed no more
            return await work
        finally:
            for task in (work, hold, show):
                task.cancel()
            await asyncio.gather(work, hold, show, return_exceptions=True)

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
        resumed = await self._continuation.last()
        names = await self._names("detector", resumed)
        detector = await self._ask_detector(names)
        follow = self._config.serving.reload.running_videos == "switch"
        choice = DetectorSwitch(self._served, names, detector, self._ask_detector, follow, job.id)
        self._models = {"detector": detector.weights, "reid": None, "switches": choice.switches}
        if self._config.needs_embeddings:
            self._embedder_names = await self._names("reid", resumed)
            self._models["reid"] = (await self._ask_embedder(self._embedder_names)).weights
        source = await asyncio.to_thread(open_video, job.source, self._config.video, job.name)
        self._source = source
        with source:
            stats = PipelineStats()
            video_tracker = self._follower(source, stats)
            if resumed is not None and not self._restore(video_tracker, resumed):
                stats, resumed = PipelineStats(), None
                video_tracker = self._follower(source, stats)
            if resumed is not None:
                choice.resume(stats.frames, resumed.models["switches"])
                self._models["detector"] = resumed.models["detector"]
                self._frames = resumed.frames_written
            # a session that comes late must not touch the file of the one that has its video
            confirm = partial(self._lease.surely, self._lease.write)
            with await self._continuation.open_results(resumed, detector.class_names, confirm) as results:
                await confirm(
                    status="running",
                    models=self._models,
                    classes={str(index): name for index, name in detector.class_names.items()},
                    video=asdict(source.info),
                    frames_total=source.info.frame_count,
                )
                extra = {"video_id": job.id, "frame": stats.frames, "attempt": job.attempt}
                logger.info("session started", extra=extra)
                seconds = await self._follow(source, video_tracker, stats, results, choice, resumed)
        if self._book is not None and self._identities is not None:
            model = model_key(self._models["reid"], self._config.reid)
            await asyncio.to_thread(remember, self._identities, job.id, model, self._book, logger)
        await confirm(status="done", **self._progress_of(stats, seconds))
        await asyncio.to_thread(self._continuation.end)
        logger.info("session done", extra={"video_id": job.id, "frame": stats.frames})

    async def _names(self, role: Role, resumed: Checkpoint | None) -> Names:
        """Return the names of the model that the video began with, or of what new videos get."""
        if resumed is not None:
            return resumed.names[role]
        return await asyncio.to_thread(self._served.names, role, self._config)

    def _follower(self, source: VideoSource, stats: PipelineStats) -> VideoTracker:
        info = source.info
        on_embedded = self._on_embedded if self._book is not None else None
        return VideoTracker(self._config, stats, info.rate_hz, (info.width, info.height), on_embedded)

    async def _follow(
        self,
        source: VideoSource,
        video_tracker: VideoTracker,
        stats: PipelineStats,
        results: ResultWriter,
        choice: DetectorSwitch,
        resumed: Checkpoint | None,
    ) -> float:
        """Track to the end of the video; return the seconds of work, those of earlier attempts among them."""
        self._activity.follow(stats, source.info.frame_count)
        started = time.monotonic() - (resumed.seconds if resumed else 0.0)
        reported = saved = time.monotonic()
        interval = self._config.serving.session.checkpoint_s
        frames = source.frames(stats.frames)
        detect = partial(self._detect, choice)
        tracked = track_frames_with(frames, detect, self._embed, self._config, video_tracker, observer=self._activity)
        async with aclosing(tracked) as chunks:
            async for chunk in chunks:
                with self._activity.write():
                    results.append(chunk)
                self._frames += len(chunk)
                await self._tell(finished=False)
                now = time.monotonic()
                if now - reported >= _PROGRESS_INTERVAL_S:
                    reported = now
                    await self._report(stats, now - started)
                    self._activity.report()
                    await require_reserve(self._config, self._frames)
                if interval and video_tracker.is_idle and (self._lease.leaving or now - saved >= interval):
                    checkpoint = self._snapshot(video_tracker, results, choice, stats.frames, now - started)
                    written = await self._continuation.save(checkpoint, results, stats.frames)
                    saved = time.monotonic()
                    if written and self._lease.leaving:
                        await self._lease.surely(self._lease.release)
                        raise _HandedOver
        return time.monotonic() - started

    def _snapshot(
        self, video_tracker: VideoTracker, results: ResultWriter, choice: DetectorSwitch, frame: int, seconds: float
    ) -> Checkpoint:
        names, weights, switches = choice.at(frame)
        embedder = self._models["reid"]
        parts = {"video_tracker": video_tracker.state_dict()}
        if self._book is not None:
            parts["book"] = self._book.state_dict()
        return Checkpoint(
            frames_written=self._frames,
            bytes_written=results.size,
            seconds=seconds,
            names={"detector": names, "reid": self._embedder_names},
            weights={"detector": weights} | ({"reid": embedder} if embedder else {}),
            models={**self._models, "switches": switches},
            state=merge_states(**parts),
        )

    def _restore(self, video_tracker: VideoTracker, checkpoint: Checkpoint) -> bool:
        """Put video_tracker and portraits where a checkpoint says; return whether that could be done."""
        try:
            video_tracker.load_state_dict(substate(checkpoint.state, "video_tracker"))
            if self._book is not None:
                self._book.load_state_dict(substate(checkpoint.state, "book"))
        except ValueError as error:
            self._continuation.start_over(error)
            return False
        return True

    def _on_embedded(self, seen: EmbeddedCrops) -> None:
        if self._book is not None:
            self._book.add(seen.identities, seen.embeddings, seen.crops, seen.boxes, seen.scores, seen.timestamp)

    async def _ask_detector(self, names: Names) -> ModelInfo:
        return await self._asking.call(lambda: self._detector.info.remote(names))

    async def _ask_embedder(self, names: Names) -> ModelInfo:
        return await self._asking.call(lambda: self._embedder.info.remote(names))

    async def _detect(self, choice: DetectorSwitch, images: list[Any]) -> list[Any]:
        names = await choice.next_chunk(len(images))
        # one object in shared memory, which a second attempt uses again
        chunk = ray.put(images)
        origin = self._here()
        return await self._asking.call(lambda: self._detector.detect.remote(chunk, names, origin))

    async def _embed(self, crops: Any) -> Any:
        origin = self._here()
        return await self._asking.call(lambda: self._embedder.embed.remote(crops, self._embedder_names, origin))

    def _here(self) -> RequestContext:
        return RequestContext.here(self._tracing.headers(), self._job.id)

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
        """Write down how far the video is. The next report says it as well, so a store that fails is let pass.

        Raises:
            Superseded: It is another session's matter.
        """
        try:
            await asyncio.to_thread(self._lease.write, status="running", **self._progress_of(stats, seconds))
        except sqlite3.Error as error:  # whether the video can be held is for the lease to say
            extra = {"video_id": self._job.id, "frame": stats.frames}
            logger.warning("progress could not be written: %s", error, extra=extra)

    async def _fail(self, error: BaseException, message: str) -> None:
        """Write down why the video failed. What was tracked before stays; a video without a tracked frame goes.

        Raises:
            Superseded: It is another session's matter.
        """
        failure = {"type": type(error).__name__, "message": message}
        done = {"frames_done": self._frames, "frames_damaged": self._frames_damaged}
        if isinstance(error, DiskFull):
            await asyncio.to_thread(self._continuation.end)  # first: what is in the checkpoints is room for the row
        await self._lease.surely(self._lease.write, status="failed", error=failure, **done)
        logger.error("video failed: %s", message, extra={"video_id": self._job.id, "frame": self._frames})
        if isinstance(error, InvalidVideo) and not self._frames:
            await asyncio.to_thread(self._artifacts.delete, self._job.id)
        await asyncio.to_thread(self._continuation.end)
        if self._identities is not None:
            await asyncio.to_thread(forget, self._identities, self._job.id, logger)

    async def _tell(self, finished: bool) -> None:
        async with self._progress:
            self._finished = finished
            self._progress.notify_all()
