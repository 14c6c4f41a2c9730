"""Selects the detector of a running video, and switches it when a new one is promoted."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from motserve.errors import NotReady
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import ModelInfo, Names

logger = logging.getLogger("motserve.session")

_POLL_INTERVAL_S: Final = 1.0


class DetectorSwitch:
    """The detector of one video.

    Args:
        active_models: The models that new videos get.
        names: Names of the detector that the video starts with.
        info: Weights and class names of that detector.
        load: Has a replica load a detector, and returns its weights and class names.
        enabled: Whether the video switches to the detector that new videos get.
        video_id: ID of the video, for the log.
        clock: Monotonic clock in seconds.

    """

    def __init__(
        self,
        active_models: ActiveModels,
        names: Names,
        info: ModelInfo,
        load: Callable[[Names], Awaitable[ModelInfo]],
        enabled: bool,
        video_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._switches: list[dict[str, Any]] = []
        self._active_models = active_models
        self._names = names
        self._info = info
        self._history: list[tuple[int, Names, dict[str, str]]] = [(0, names, info.weights)]
        self._load = load
        self._enabled = enabled
        self._extra = {"video_id": video_id}
        self._clock = clock
        self._polled_at = clock()
        self._frames = 0
        self._refused: Names | None = None
        self._lock = asyncio.Lock()

    @property
    def switches(self) -> list[dict[str, Any]]:
        """A copy of each switch: `frame`, the first frame of the new detector, and `detector`, its weights."""
        return [dict(switch) for switch in self._switches]

    def resume(self, frame: int, switches: list[dict[str, Any]]) -> None:
        """Resume where an earlier session stopped.

        Args:
            frame: The next frame of the video.
            switches: The switches before it.
        """
        self._switches.extend(switches)
        self._frames = frame

    def at(self, frame: int) -> tuple[Names, dict[str, str], list[dict[str, Any]]]:
        """Return names and weights of a frame's detector, and the switches up to it; later chunks may be in flight."""
        _, names, weights = next(entry for entry in reversed(self._history) if entry[0] <= frame)
        return names, weights, [switch for switch in self.switches if switch["frame"] <= frame]

    async def next_chunk(self, frames: int) -> Names:
        """Return the names of the detector for the next chunk; call it once for each chunk, in order.

        Args:
            frames: Number of frames in the chunk, skipped ones included.
        """
        async with self._lock:  # the next chunk may call this while this one waits for the store or a replica
            if self._enabled and self._clock() - self._polled_at >= _POLL_INTERVAL_S:
                await self._poll()
                self._polled_at = self._clock()
            self._frames += frames
            return self._names

    async def _poll(self) -> None:
        try:
            candidate = await asyncio.to_thread(self._active_models.current, "detector")
        except sqlite3.Error as error:
            logger.warning("the active models cannot be read: %s", error, extra={**self._extra, "frame": self._frames})
            return
        if candidate is None or candidate in (self._names, self._refused):
            return
        extra = {**self._extra, "frame": self._frames, "weights": candidate}
        try:
            info = await self._load(candidate)
        except Exception as error:
            if not isinstance(error, NotReady):  # not ready is temporary
                self._refused = candidate
            logger.warning("the video keeps its detector: %s", error, extra=extra)
            return
        if info.class_names != self._info.class_names:
            self._refused = candidate
            logger.warning(
                "the video keeps its detector: the new one has the classes %s, not %s",
                info.class_names,
                self._info.class_names,
                extra=extra,
            )
            return
        self._names, self._info = candidate, info
        self._history.append((self._frames, candidate, info.weights))
        self._switches.append({"frame": self._frames, "detector": info.weights})
        logger.info("the video switches to a new detector", extra=extra)
