"""Tracker and identity linker of one video: processes each frame once its detections are available."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import astuple, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, load_array, merge_states, substate
from motserve.config import Config
from motserve.pipeline.frame_buffer import FrameBuffer, ResolvedFrame
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.skipped_frames import SkippedFrames
from motserve.reid.crops import FrameCrops
from motserve.reid.identity_table import NO_IDENTITY
from motserve.reid.linker import IdentityLinker
from motserve.tracking import build_tracker
from motserve.tracking.camera import CameraMotion
from motserve.types import BoolArray, Cues, Detections, EmbeddedCrops, FloatArray, Image, TrackedFrame

EmbedFrameBoxes: TypeAlias = Callable[[FloatArray], Awaitable[FloatArray]]
"""Embeds `(k, 4)` boxes of a frame, xyxy in pixels; returns `(k, d)` unit vectors."""

GetImage: TypeAlias = Callable[[], Image]
"""Returns the picture of a frame."""

GetCrops: TypeAlias = Callable[[FloatArray, BoolArray], NDArray[np.uint8]]
"""Returns the crops of those of `(k, 4)` boxes of a frame that are marked; see `FrameCrops.select`."""

OnEmbedded: TypeAlias = Callable[[EmbeddedCrops], None]
"""Called with the people of a frame who were embedded to link their identities."""


class VideoTracker:
    """Tracker and identity linker of one video: processes each frame once its detections are available.

    Args:
        config: The configuration; the sections `tracker` and `reid` are used.
        stats: Counters; updated after each frame.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
        size: Width and height of the pictures in pixels, None where they are not known.
        on_embedded: Called with the embedded people of a frame once their identities are decided; None for no callback.

    Attributes:
        is_idle: Whether no frame is being processed; the state can be saved only then.
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
        self._buffer = FrameBuffer()
        self._skipped = SkippedFrames()
        self._stats = stats
        self._now = 0.0
        self.is_idle = True
        self._on_embedded = on_embedded
        self._config = config.reid

    @property
    def frames(self) -> int:
        """Number of frames processed, skipped ones included."""
        return self._stats.frames

    async def advance(
        self,
        index: int,
        timestamp: float,
        detections: Detections,
        embed: EmbedFrameBoxes,
        get_image: GetImage,
        get_crops: GetCrops | None = None,
    ) -> list[TrackedFrame]:
        """Advance by one frame.

        Args:
            index: The frame's position in the video, from 0.
            timestamp: Presentation time in seconds, greater than that of the previous frame.
            detections: Detections of the frame.
            embed: Embeds boxes of the frame; called only where tracker or linker need embeddings.
            get_image: Returns the picture; called only to estimate camera motion and for `on_embedded`.
            get_crops: Returns crops that `embed` has cut already, for `on_embedded`; None to cut them again.

        Returns:
            The frames, in order, whose identities are decided now: usually this one alone, none while an identity in
            it is undecided, several when a decision releases them. `finish` returns the rest.
        """
        self.is_idle = False
        to_embed = self._tracker.rows_to_embed(detections)
        detection_embeddings = (
            await embed(detections.boxes[to_embed]) if len(to_embed) else np.empty((0, 0), np.float32)
        )
        camera = self._camera.advance(get_image(), detections.boxes) if self._camera else None
        tracks = self._tracker.update(detections, timestamp, Cues(camera, to_embed, detection_embeddings))
        rows = self._linker.plan(tracks, timestamp)
        boxes = tracks.boxes[rows]
        embeddings = await embed(boxes) if len(rows) else np.empty((0, 0), np.float32)
        computed = len(rows) + len(to_embed)
        if self._config.policy != "off":
            self._stats.embeddings_skipped += int(np.count_nonzero(tracks.measured)) - len(rows)
        finite = np.isfinite(embeddings).all(axis=1)  # half precision may overflow, and NaN matches no one
        rows, embeddings = rows[finite], embeddings[finite]
        identities = self._linker.link(tracks, timestamp, rows, embeddings)
        self._now = timestamp
        self._stats.frames += 1
        self._stats.embeddings += computed
        embedded = None
        if self._on_embedded and len(rows):
            trusted = self._linker.trusted
            trusted_rows = rows[trusted]
            used_boxes = finite.copy()
            used_boxes[finite] = trusted
            if get_crops is None:
                get_crops = FrameCrops(get_image(), self._config.crop_height, self._config.crop_width).select
            embedded = EmbeddedCrops(
                timestamp,
                identities[trusted_rows],
                tracks.boxes[trusted_rows],
                tracks.scores[trusted_rows],
                embeddings[trusted],
                get_crops(boxes, used_boxes),
            )
        has_identity = identities != NO_IDENTITY
        if not has_identity.all():  # predicted boxes whose identity a detected track has
            with_identity = np.flatnonzero(has_identity)
            tracks, identities = tracks.select(with_identity), identities[with_identity]
        frame = TrackedFrame(index, timestamp, tracks, identities)
        resolved = self._notify(self._buffer.add(frame, self._linker.take_decisions(), embedded))
        self.is_idle = True
        return resolved

    def skip(self, index: int, timestamp: float) -> None:
        """Advance by one frame without detections; `advance` or `finish` returns it with interpolated boxes.

        Args:
            index: Number of the frame in the video, from 0.
            timestamp: Presentation time in seconds, greater than that of the previous frame.
        """
        self._skipped.add(index, timestamp)
        self._stats.frames += 1

    def finish(self) -> list[TrackedFrame]:
        """Return the frames that are still held back. Call it at the end of the video."""
        self._linker.finish(self._now)
        return self._notify(self._buffer.resolve(self._linker.take_decisions())) + self._skipped.finish()

    def state_dict(self) -> State:
        """Return a copy of the whole state with the counters; `load_state_dict` of it gives the same future.

        Raises:
            RuntimeError: A frame is being processed.
        """
        if not self.is_idle:
            raise RuntimeError(f"frame {self._stats.frames} is not finished, the state cannot be saved")
        states = {
            "tracker": self._tracker.state_dict(),
            "linker": self._linker.state_dict(),
            "frame_buffer": self._buffer.state_dict(),
            "skipped": self._skipped.state_dict(),
        }
        if self._camera:
            states["camera"] = self._camera.state_dict()
        numbers = {"now": np.array(self._now), "stats": np.array(astuple(self._stats), np.int64)}
        return merge_states(**states) | numbers

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state, counters included, by one that `state_dict` returned.

        Raises:
            ValueError: The state is not of a tracker with this configuration. The tracker must not be used afterwards.
        """
        self._tracker.load_state_dict(substate(state, "tracker"))
        self._linker.load_state_dict(substate(state, "linker"))
        self._buffer.load_state_dict(substate(state, "frame_buffer"))
        self._skipped.load_state_dict(substate(state, "skipped"))
        if self._camera:
            self._camera.load_state_dict(substate(state, "camera"))
        self._now = float(load_array(state, "now", np.float64))
        counters = [field.name for field in fields(self._stats)]
        for name, count in zip(counters, load_array(state, "stats", np.int64, len(counters)).tolist(), strict=True):
            setattr(self._stats, name, count)

    def _notify(self, resolved: list[ResolvedFrame]) -> list[TrackedFrame]:
        """Update the counters, call `on_embedded` for resolved frames, and return them with the skipped ones."""
        self._stats.identities, self._stats.links = self._linker.identities, self._linker.links
        for resolved_frame in resolved:
            if self._on_embedded and resolved_frame.embedded is not None:
                self._on_embedded(resolved_frame.embedded)
        return self._skipped.fill([resolved_frame.frame for resolved_frame in resolved])
