"""The models of one video: which weights it uses from its first frame to its last."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config
from motserve.config.base import Role
from motserve.errors import UnfitCheckpoint
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import ModelInfo, Names
from motserve.serving.session.checkpoint import Checkpoint
from motserve.serving.session.detector_switch import DetectorSwitch
from motserve.serving.session.model_client import ModelClient
from motserve.types import Detections, FloatArray, Image


class VideoModels:
    """Detector and embedder of one video. A video keeps its embedder; its detector may be switched.

    Args:
        client: Sends the requests.
        active_models: The models that new videos get.
        config: The configuration.
        video_id: The video, for the log.

    Attributes:
        class_names: Name of each class index; empty before `load`.
        embedder: Name and checksum of the embedder; None if the video needs no embeddings.
    """

    def __init__(self, client: ModelClient, active_models: ActiveModels, config: Config, video_id: str) -> None:
        self.class_names: Mapping[int, str] = {}
        self.embedder: dict[str, str] | None = None
        self._client = client
        self._active_models = active_models
        self._config = config
        self._video_id = video_id
        self._detector: dict[str, str] = {}
        self._embedder_names: Names = ()
        self._switch: DetectorSwitch | None = None

    async def check(self, checkpoint: Checkpoint) -> None:
        """Check that the models of a checkpoint are available and unchanged.

        Raises:
            UnfitCheckpoint: A name stands for other weights now.
            WeightsUnavailable: A model is not available.
        """
        for role, saved in checkpoint.weights.items():
            current = (await self._client.info(role, checkpoint.names[role])).weights
            if current["sha256"] != saved["sha256"]:
                raise UnfitCheckpoint(f"it was made with {role} {saved['name']}, which is {current['name']} now")

    async def load(self, checkpoint: Checkpoint | None) -> None:
        """Load the models of a checkpoint, or those that new videos get."""
        names = await self._names("detector", checkpoint)
        info = await self._client.info("detector", names)
        self.class_names, self._detector = info.class_names, info.weights
        enabled = self._config.serving.reload.running_videos == "switch"
        self._switch = DetectorSwitch(self._active_models, names, info, self._detector_info, enabled, self._video_id)
        if self._config.needs_embeddings:
            self._embedder_names = await self._names("reid", checkpoint)
            self.embedder = (await self._client.info("reid", self._embedder_names)).weights

    def resume(self, frame: int, checkpoint: Checkpoint) -> None:
        """Resume where an earlier session stopped.

        Args:
            frame: The next frame of the video.
            checkpoint: Its checkpoint, whose models are loaded.
        """
        self._loaded.resume(self._next_detected(frame), checkpoint.models["switches"])
        self._detector = checkpoint.models["detector"]

    async def detect(self, images: list[Image]) -> list[Detections]:
        """Return the detections in each image of the next chunk."""
        names = await self._loaded.next_chunk(len(images) * self._config.detector.every)
        return await self._client.detect(images, names)

    async def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Return `(k, d)` unit vectors of `(k, height, width, 3)` crops."""
        return await self._client.embed(crops, self._embedder_names)

    def describe(self) -> dict[str, Any]:
        """Return the models as the job records them: first detector, embedder, and switches of the detector."""
        return {"detector": self._detector, "reid": self.embedder, "switches": self._loaded.switches}

    def checkpoint(self, frame: int) -> Checkpoint:
        """Return a checkpoint that holds the models of a frame, and nothing else."""
        names, detector, switches = self._loaded.at(self._next_detected(frame))
        weights: dict[Role, dict[str, str]] = {"detector": detector}
        if self.embedder is not None:
            weights["reid"] = self.embedder
        return Checkpoint(
            names={"detector": names, "reid": self._embedder_names},
            weights=weights,
            models={**self.describe(), "switches": switches},
        )

    def _next_detected(self, frame: int) -> int:
        """Return the next frame that the detector gets, from a frame on."""
        every = self._config.detector.every
        return -(-frame // every) * every

    @property
    def _loaded(self) -> DetectorSwitch:
        if self._switch is None:
            raise RuntimeError("the models of the video are not loaded")
        return self._switch

    async def _detector_info(self, names: Names) -> ModelInfo:
        return await self._client.info("detector", names)

    async def _names(self, role: Role, checkpoint: Checkpoint | None) -> Names:
        if checkpoint is not None:
            return checkpoint.names[role]
        return await asyncio.to_thread(self._active_models.names, role, self._config)
