"""The actor that follows one video: it decodes, asks detector and embedder, tracks, and appends the results.

It runs no network and imports no torch, so a session is small. When the video is done, failed or deleted, the actor
is gone; what is left is the row in the job store and the result file.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import cv2
import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle

from motserve.config import Config
from motserve.errors import InvalidVideo, MotserveError, NotReady
from motserve.identities.model import model_key
from motserve.identities.portraits import PortraitBook
from motserve.identities.store import IdentityStore
from motserve.logs import setup_logging
from motserve.pipeline import PipelineStats, track_frames
from motserve.results import ResultWriter
from motserve.serving.activity import Activity
from motserve.serving.choice import DetectorChoice
from motserve.serving.metrics import Ending, VideoGauges
from motserve.serving.monitor import keep_fresh
from motserve.serving.origin import Origin
from motserve.serving.replica import ModelInfo
from motserve.serving.served import ServedModels
from motserve.serving.shelf import Names
from motserve.serving.stores import ArtifactStore, Job, JobStore
from motserve.serving.tracing import Tracing
from motserve.types import Sighting
from motserve.video import VideoSource, open_video

Result = TypeVar("Result")
logger = logging.getLogger("motserve.session")

_PROGRESS_INTERVAL_S = 0.5  # a row in the job store is written no more often than anybody polls it


class VideoSession:
    """Tracks one video from its first to its last frame; `start_session` makes it an actor.

    Args:
        job: The video.
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
        origin: Origin,
    ) -> None:
        setup_logging(config.logging)
        cv2.setNumThreads(1)  # crops are small, and the cores belong to the networks
        self._job = job
        self._config = config
        self._detector = detector
        self._embedder = embedder
        self._served = ServedModels(config.serving.storage_dir, deployment)
        self._embedder_names: Names = ()
        self._models: dict[str, Any] = {}
        self._jobs = JobStore(config.serving.storage_dir)
        self._artifacts = ArtifactStore(config.serving.storage_dir)
        identities = config.serving.identities
        remembers = identities.enabled and config.reid.policy != "off"
        self._book = PortraitBook(identities) if remembers else None
        self._identities = IdentityStore(config.serving.storage_dir, identities.max_identities) if remembers else None
        self._origin = origin
        self._tracing = Tracing(config.serving.tracing, "motserve-session")
        gauges = VideoGauges(job.id) if config.serving.metrics.per_video else None
        self._activity = Activity(job.id, monitor.record.remote, gauges, self._tracing)
        self._progress = asyncio.Condition()
        self._frames = 0
        self._finished = False

    async def run(self) -> None:
        """Track the whole video. Whatever happens ends up in the job store; then the actor leaves."""
        with self._origin.logged():
            ending = await self._run_to_the_end()
            await self._tell(finished=True)
            await self._activity.end(ending)
            await asyncio.to_thread(self._tracing.flush)
        # An orderly exit waits most of a minute for the threads of the Serve handles; everything is written by now.
        ray.kill(ray.get_runtime_context().current_actor)

    async def _run_to_the_end(self) -> Ending:
        self._activity.report()
        showing = asyncio.create_task(keep_fresh(self._show, self._config.serving.metrics.refresh_s))
        try:
            with self._tracing.span("session", "internal", self._origin.trace, self._origin.about):
                await self._track()
        except MotserveError as error:
            self._fail(error, str(error))
        except asyncio.CancelledError as error:
            self._fail(error, f"tracking was cancelled after frame {self._frames}")
        except Exception as error:
            logger.exception("video failed", extra={"video_id": self._job.id, "frame": self._frames})
            self._fail(error, f"tracking stopped after frame {self._frames}: {error}")
        else:
            return "done"
        finally:
            showing.cancel()
            self._activity.show()
        return "failed"

    async def _show(self) -> None:
        self._activity.show()

    async def follow(self, frames_seen: int) -> bool:
        """Wait until more than `frames_seen` frames are in the result file; return whether they are the last."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._finished or self._frames > frames_seen)
        return self._finished

    async def _track(self) -> None:
        job = self._job
        names = await asyncio.to_thread(self._served.names, "detector", self._config)
        detector = await self._ask_detector(names)
        follow = self._config.serving.reload.running_videos == "switch"
        choice = DetectorChoice(self._served, names, detector, self._ask_detector, follow, job.id)
        self._models = {"detector": detector.weights, "reid": None, "switches": choice.switches}
        if self._config.looks_at_people:
            self._embedder_names = await asyncio.to_thread(self._served.names, "reid", self._config)
            embedder: ModelInfo = await self._call(lambda: self._embedder.info.remote(self._embedder_names))
            self._models["reid"] = embedder.weights
        source = await asyncio.to_thread(open_video, job.source, self._config.video, job.name)
        with source, ResultWriter(self._artifacts.results(job.id), detector.class_names) as results:
            self._jobs.update(
                job.id,
                status="running",
                models=self._models,
                classes={str(index): name for index, name in detector.class_names.items()},
                video=asdict(source.info),
                frames_total=source.info.frame_count,
            )
            logger.info("session started", extra={"video_id": job.id, "frame": 0})
            stats, seconds = await self._track_source(source, results, choice)
        if self._book is not None:
            await asyncio.to_thread(self._remember, self._book, model_key(self._models["reid"], self._config.reid))
        self._report(stats, seconds, "done")
        logger.info("session done", extra={"video_id": job.id, "frame": stats.frames})

    async def _track_source(
        self, source: VideoSource, results: ResultWriter, choice: DetectorChoice
    ) -> tuple[PipelineStats, float]:
        """Return what the video has cost, and the seconds it took."""
        started = reported = time.monotonic()
        stats = PipelineStats()
        info = source.info
        self._activity.follow(stats, info.frame_count)
        size = (info.width, info.height)
        witness = self._portray if self._book is not None else None
        detect = partial(self._detect, choice)
        tracked = track_frames(
            source.frames(), detect, self._embed, self._config, stats, info.rate_hz, size, witness,
            observer=self._activity,
        )  # fmt: skip
        async with aclosing(tracked) as chunks:
            async for chunk in chunks:
                with self._activity.write():
                    results.append(chunk)
                self._frames += len(chunk)
                await self._tell(finished=False)
                now = time.monotonic()
                if now - reported >= _PROGRESS_INTERVAL_S:
                    reported = now
                    self._report(stats, now - started, "running")
                    self._activity.report()
        return stats, time.monotonic() - started

    def _portray(self, seen: Sighting) -> None:
        if self._book is not None:
            self._book.add(seen.identities, seen.embeddings, seen.crops, seen.boxes, seen.scores, seen.timestamp)

    def _remember(self, book: PortraitBook, model: str) -> None:
        """Put the people of the video into the index. That it cannot be written to does not undo the tracks."""
        extra = {"video_id": self._job.id, "identities": len(book), "dropped": book.dropped}
        try:
            if self._identities is not None:
                self._identities.remember(self._job.id, model, book.portraits())
        except sqlite3.Error:
            logger.exception("the people of this video cannot be searched for: the index was not written", extra=extra)
        else:
            logger.info("people remembered", extra=extra)

    async def _ask_detector(self, names: Names) -> ModelInfo:
        return await self._call(lambda: self._detector.info.remote(names))

    async def _detect(self, choice: DetectorChoice, images: list[Any]) -> list[Any]:
        names = await choice.next_chunk(len(images))
        # one object in shared memory, which a second attempt uses again
        chunk = ray.put(images)
        origin = self._here()
        return await self._call(lambda: self._detector.detect.remote(chunk, names, origin))

    async def _embed(self, crops: Any) -> Any:
        origin = self._here()
        return await self._call(lambda: self._embedder.embed.remote(crops, self._embedder_names, origin))

    def _here(self) -> Origin:
        return Origin.here(self._tracing.headers(), self._job.id)

    async def _call(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Make a request, again where a replica died under it, within a time.

        Raises:
            NotReady: No replica answered in time, or each that tried died.
            Exception: Whatever the replica raises.
        """
        limits = self._config.serving.session
        for attempt in range(1, limits.attempts + 1):
            try:
                return await asyncio.wait_for(request(), limits.request_timeout_s)
            except RayActorError as error:
                if attempt < limits.attempts:
                    self._activity.repeated()
                logger.warning(
                    "a replica died, attempt %d of %d",
                    attempt,
                    limits.attempts,
                    extra={"video_id": self._job.id, "frame": self._frames, "error": str(error)},
                )
            except RayTaskError as error:
                raise error.cause from error  # the failure of the video names it, not its traceback
            except asyncio.TimeoutError as error:
                raise NotReady(f"detector or embedder did not answer within {limits.request_timeout_s} s") from error
        raise NotReady(f"{limits.attempts} replicas of detector or embedder died, one after the other")

    def _report(self, stats: PipelineStats, seconds: float, status: str) -> None:
        self._jobs.update(
            self._job.id,
            status=status,
            models=self._models,
            frames_done=stats.frames,
            fps=round(stats.frames / max(seconds, 1e-9), 2),
            identities=stats.identities,
            embeddings=stats.embeddings,
            links=stats.links,
        )

    def _fail(self, error: BaseException, message: str) -> None:
        if isinstance(error, InvalidVideo):
            self._artifacts.delete(self._job.id)
        logger.error("video failed: %s", message, extra={"video_id": self._job.id, "frame": self._frames})
        self._jobs.update(self._job.id, status="failed", error={"type": type(error).__name__, "message": message})
        if self._identities is not None:
            try:
                self._identities.forget([self._job.id])
            except sqlite3.Error:  # a search forgets the people of failed videos as well
                logger.exception("the people of this video are still in the index", extra={"video_id": self._job.id})

    async def _tell(self, finished: bool) -> None:
        async with self._progress:
            self._finished = finished
            self._progress.notify_all()
