"""Tracker and identities of one video: what happens to a frame once its detections are there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, load_array, merge_states, substate
from motserve.config import Config
from motserve.pipeline.frame_buffer import FrameBuffer, ResolvedFrame
from motserve.reid.crops import cut_crops, trusted
from motserve.reid.linker import IdentityLinker
from motserve.tracking import build_tracker
from motserve.tracking.camera import CameraMotion
from motserve.types import Cues, Detections, EmbeddedCrops, FloatArray, Image, TrackedFrame

Look: TypeAlias = Callable[[FloatArray], Awaitable[FloatArray]]
"""Embeds what is in `(k, 4)` boxes of a frame, xyxy in pixels; answers `(k, d)` unit vectors."""

Picture: TypeAlias = Callable[[], Image]
"""Answers the picture of a frame."""

OnEmbedded: TypeAlias = Callable[[EmbeddedCrops], None]
"""Told of each frame in which people were embedded to tell who they are."""


@dataclass(slots=True)
class PipelineStats:
    """What one video has cost so far; written by the pipeline, read by whoever reports.

    Attributes:
        frames: Frames tracked.
        identities: Different people so far.
        embeddings: Embeddings computed.
        links: Returning people who were given their old identity.
        spared: Embeddings that `reid.policy: always` would have computed as well.
    """

    frames: int = 0
    identities: int = 0
    embeddings: int = 0
    links: int = 0
    spared: int = 0


class VideoTracker:
    """Tracker and identities of one video: what happens to a frame once its detections are there.

    Args:
        config: The configuration; the sections `tracker` and `reid` are used.
        stats: Counters that are kept up to date.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
        size: Width and height of the pictures in pixels, None where they are not known.
        on_embedded: Told of everybody who was embedded, once it is known who that is; None for nobody to tell.

    Attributes:
        is_idle: Whether every frame that was begun was finished; only then is there a state to save.
    """

    def __init__(
        self,
        config: Config,
        stats: PipelineStats,
        rate_hz: float | None = None,
        size: tuple[int, int] | None = None,
        on_embedded: OnEmbedded | None = None,
    ) -> None:
        self._tracker = build_tracker(config.tracker, rate_hz)
        self._camera = CameraMotion(config.camera) if config.camera else None
        self._linker = IdentityLinker(config.reid, size)
        self._waiting = FrameBuffer()
        self._stats = stats
        self._now = 0.0
        self.is_idle = True
        self._witness = on_embedded
        self._config, self._size = config.reid, size

    async def advance(
        self, index: int, timestamp: float, detections: Detections, look: Look, picture: Picture
    ) -> list[TrackedFrame]:
        """Advance by one frame.

        Args:
            index: The frame's position in the video, from 0.
            timestamp: Presentation time in seconds, greater than that of the frame before.
            detections: What was seen in the frame.
            look: Asked for the appearance of the people in doubt; not called where nobody is.
            picture: Asked for the picture where the camera's motion is estimated or the on_embedded is told.

        Returns:
            The frames, in order, in which everybody's identity is known now: often this one alone, none while somebody
            in it is in doubt, several when the doubt ends. `finish` returns the rest.
        """
        self.is_idle = False
        wanted = self._tracker.wants(detections)
        looks = await look(detections.boxes[wanted]) if len(wanted) else np.empty((0, 0), np.float32)
        camera = self._camera.advance(picture(), detections.boxes) if self._camera else None
        tracks = self._tracker.update(detections, timestamp, Cues(camera, wanted, looks))
        rows = self._linker.plan(tracks, timestamp)
        embeddings = await look(tracks.boxes[rows]) if len(rows) else np.empty((0, 0), np.float32)
        computed = len(rows) + len(wanted)
        if self._config.policy != "off":
            self._stats.spared += int(np.count_nonzero(tracks.measured)) - len(rows)
        finite = np.isfinite(embeddings).all(axis=1)  # half precision may overflow, and NaN is near to nobody for ever
        rows, embeddings = rows[finite], embeddings[finite]
        identities = self._linker.link(tracks, timestamp, rows, embeddings)
        self._now = timestamp
        self._stats.frames += 1
        self._stats.embeddings += computed
        sighting = None
        if self._witness and len(rows):
            measured = np.flatnonzero(tracks.measured)  # as the linker sees it
            good = measured[trusted(tracks.part(measured), self._config.trust, self._size)]
            good = rows[np.isin(rows, good)]
            crops = cut_crops(picture(), tracks.boxes[good], self._config.crop_height, self._config.crop_width)
            found = embeddings[np.isin(rows, good)]
            sighting = EmbeddedCrops(timestamp, identities[good], tracks.boxes[good], tracks.scores[good], found, crops)
        if not identities.all():  # predicted boxes of people who were recognised elsewhere
            shown = np.flatnonzero(identities)
            tracks, identities = tracks.part(shown), identities[shown]
        frame = TrackedFrame(index, timestamp, tracks, identities)
        settled = self._told(self._waiting.add(frame, self._linker.decisions(), sighting))
        self.is_idle = True
        return settled

    def finish(self) -> list[TrackedFrame]:
        """Return the frames that are still held back; call it when the video has ended."""
        self._linker.finish(self._now)
        return self._told(self._waiting.settle(self._linker.decisions()))

    def state_dict(self) -> State:
        """Return a copy of the whole state, the counters among it; `load_state_dict` of it gives the same future.

        Raises:
            RuntimeError: A frame was begun and not finished.
        """
        if not self.is_idle:
            raise RuntimeError(f"frame {self._stats.frames} is not finished, there is no state to save")
        parts = {
            "tracker": self._tracker.state_dict(),
            "linker": self._linker.state_dict(),
            "waiting": self._waiting.state_dict(),
        }
        if self._camera:
            parts["camera"] = self._camera.state_dict()
        numbers = {"now": np.array(self._now), "stats": np.array(astuple(self._stats), np.int64)}
        return merge_states(**parts) | numbers

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state, that of the counters too, by one that `state_dict` returned.

        Raises:
            ValueError: It is not that of a video_tracker with this configuration. What is left is of no use.
        """
        self._tracker.load_state_dict(substate(state, "tracker"))
        self._linker.load_state_dict(substate(state, "linker"))
        self._waiting.load_state_dict(substate(state, "waiting"))
        if self._camera:
            self._camera.load_state_dict(substate(state, "camera"))
        self._now = float(load_array(state, "now", np.float64))
        counters = [field.name for field in fields(self._stats)]
        for name, count in zip(counters, load_array(state, "stats", np.int64, len(counters)).tolist(), strict=True):
            setattr(self._stats, name, count)

    def _told(self, settled: list[ResolvedFrame]) -> list[TrackedFrame]:
        """Count, and tell the on_embedded of what is settled."""
        self._stats.identities, self._stats.links = self._linker.identities, self._linker.links
        for one in settled:
            if self._witness and one.sighting is not None:
                self._witness(one.sighting)
        return [one.frame for one in settled]
