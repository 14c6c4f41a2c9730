"""Which detector a running video is on, and when it changes to a new one."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from motserve.errors import NotReady
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.model_cache import Names
from motserve.serving.inference.replica import ModelInfo

logger = logging.getLogger("motserve.session")

_LOOK_EVERY_S: Final = 1.0


class DetectorSwitch:
    """The detector of one video.

    Args:
        served: What new videos get.
        names: The detector that the video begins with.
        info: What it is.
        ask: Asks a replica what a detector is, which loads it.
        follow: Whether the video changes to what new videos get.
        video_id: For the log.
        clock: Monotonic clock in seconds.

    Attributes:
        switches: Each change: `frame`, the first that the new detector sees, and `detector`, its weights.
    """

    def __init__(
        self,
        served: ActiveModels,
        names: Names,
        info: ModelInfo,
        ask: Callable[[Names], Awaitable[ModelInfo]],
        follow: bool,
        video_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.switches: list[dict[str, Any]] = []
        self._served = served
        self._names = names
        self._info = info
        self._past: list[tuple[int, Names, dict[str, str]]] = [(0, names, info.weights)]
        self._ask = ask
        self._follow = follow
        self._extra = {"video_id": video_id}
        self._clock = clock
        self._embedded = clock()
        self._frames = 0
        self._refused: Names | None = None
        self._in_turn = asyncio.Lock()

    def resume(self, frame: int, switches: list[dict[str, Any]]) -> None:
        """Go on at a frame where an earlier session was.

        Args:
            frame: The first frame that will be asked about.
            switches: The changes before it.
        """
        self.switches.extend(switches)
        self._frames = frame

    def at(self, frame: int) -> tuple[Names, dict[str, str], list[dict[str, Any]]]:
        """Return names and weights of the detector of a frame, and the changes up to it; later chunks are under way."""
        _, names, weights = next(one for one in reversed(self._past) if one[0] <= frame)
        return names, weights, [switch for switch in self.switches if switch["frame"] <= frame]

    async def next_chunk(self, frames: int) -> Names:
        """Return the detector for the next chunk of frames; call it once for each, in their order.

        Args:
            frames: How many frames the chunk has.
        """
        async with self._in_turn:  # the next chunk is asked about while this one waits for the store or a replica
            if self._follow and self._clock() - self._embedded >= _LOOK_EVERY_S:
                await self._look()
                self._embedded = self._clock()
            self._frames += frames
            return self._names

    async def _look(self) -> None:
        try:
            wanted = await asyncio.to_thread(self._served.current, "detector")
        except sqlite3.Error as error:
            logger.warning("what is current cannot be read: %s", error, extra={**self._extra, "frame": self._frames})
            return
        if wanted is None or wanted in (self._names, self._refused):
            return
        extra = {**self._extra, "frame": self._frames, "weights": wanted}
        try:
            info = await self._ask(wanted)
        except Exception as error:
            if not isinstance(error, NotReady):  # which may pass
                self._refused = wanted
            logger.warning("the video stays on its detector: %s", error, extra=extra)
            return
        if info.class_names != self._info.class_names:
            self._refused = wanted
            logger.warning(
                "the video stays on its detector: the new one knows %s, not %s",
                info.class_names,
                self._info.class_names,
                extra=extra,
            )
            return
        self._names, self._info = wanted, info
        self._past.append((self._frames, wanted, info.weights))
        self.switches.append({"frame": self._frames, "detector": info.weights})
        logger.info("the video goes on with a new detector", extra=extra)
