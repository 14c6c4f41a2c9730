"""Contenders that track a clip in one process without the service."""

from __future__ import annotations

import shutil
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from motserve.config import Config
from motserve.config.tracker import needs_embeddings
from motserve.errors import InvalidConfig
from motserve.lab.benchmark.serving.deliveries import Deliveries
from motserve.lab.experiments.models import Models
from motserve.models.libraries import import_ultralytics
from motserve.models.weights import resolve_weights
from motserve.pipeline.video_run import VideoRun
from motserve.tracking import build_tracker
from motserve.types import Frame
from motserve.video import open_video

ULTRALYTICS: Final = "ultralytics"
ULTRALYTICS_OPENVINO: Final = "ultralytics-openvino"
PEERS: Final = (ULTRALYTICS, ULTRALYTICS_OPENVINO)
"""Names of the contenders of other packages."""


class InProcess(ABC):
    """A contender that runs in a process of its own; it is sent there before it loads anything.

    Attributes:
        config: The configuration.
    """

    config: Config

    @abstractmethod
    def load(self) -> None:
        """Load the networks.

        Raises:
            WeightsUnavailable: The weights cannot be loaded.
        """

    @abstractmethod
    def track(self, clip: Path) -> Deliveries:
        """Track a clip from its first frame to its last."""


@dataclass
class BareLoop(InProcess):
    """Detector and tracker in a loop: no pipeline, no identities.

    Attributes:
        config: The configuration.
        chunk: Frames in one run of the detector. Raised, more frames share a run and arrive together.
    """

    config: Config
    chunk: int

    def load(self) -> None:
        """See `InProcess.load`."""
        if needs_embeddings(self.config.tracker):
            raise InvalidConfig(
                f"{self.config.tracker.name} with this configuration compares appearance, which the bare loop does not "
                "compute; choose another tracker, such as --config tracker/bytetrack"
            )
        self._detector = Models(self.config).detector

    def track(self, clip: Path) -> Deliveries:
        """See `InProcess.track`."""
        began, times = time.monotonic(), []
        with open_video(clip, self.config.video) as video:
            tracker = build_tracker(self.config.tracker, video.info.rate_hz)
            for chunk in _chunks(video.frames(), self.chunk):
                found = self._detector.detect([frame.image for frame in chunk])
                for frame, detections in zip(chunk, found, strict=True):
                    tracker.update(detections, frame.timestamp)
                    times.append(time.monotonic())
        return Deliveries(began, np.array(times))


@dataclass
class UltralyticsTrack(InProcess):
    """`model.track` of Ultralytics with its defaults, such as BoT-SORT with compensation of the camera motion.

    Attributes:
        config: The configuration; only the weights of the detector are used.
        folder: Folder for an export.
        openvino: Whether to export the model for OpenVINO first, with the defaults of the export.
    """

    config: Config
    folder: Path
    openvino: bool

    def load(self) -> None:
        """See `InProcess.load`.

        Raises:
            InvalidConfig: The weights are not a `.pt` file of Ultralytics.
        """
        weights = resolve_weights("detector", self.config)
        if weights.path.suffix != ".pt":
            raise InvalidConfig(
                f"Ultralytics cannot load {weights.name}; give a .pt file with --set detector.weights, or --peers none"
            )
        ultralytics = import_ultralytics()
        path: Any = weights.path
        if self.openvino:  # Ultralytics writes the export beside the weights
            copied = shutil.copy(weights.path, self.folder / weights.path.name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the export traces in a way that torch deprecates
                path = ultralytics.YOLO(copied, task="detect", verbose=False).export(format="openvino", verbose=False)
        self._model: Any = ultralytics.YOLO(path, task="detect", verbose=False)

    def track(self, clip: Path) -> Deliveries:
        """See `InProcess.track`."""
        began = time.monotonic()
        results = self._model.track(source=str(clip), stream=True, verbose=False)
        return Deliveries(began, np.array([time.monotonic() for _ in results]))


@dataclass
class Pipeline(InProcess):
    """The pipeline as `motserve track` runs it, without cached detections and without writing a video.

    Attributes:
        config: The configuration.
    """

    config: Config

    def load(self) -> None:
        """See `InProcess.load`. The networks are loaded at the first clip."""
        disk = self.config.disk.model_copy(update={"detections_cache_bytes": 0})
        self._config = self.config.model_copy(update={"disk": disk})
        self._before: VideoRun | None = None

    def track(self, clip: Path) -> Deliveries:
        """See `InProcess.track`."""
        times: list[float] = []

        def notify(done: int, _: int | None) -> None:
            times.extend([time.monotonic()] * (done - len(times)))

        self._before = run = VideoRun(clip, self._config, shared_with=self._before)
        began = time.monotonic()
        result = run.run(notify)
        if result.error is not None:
            raise result.error
        return Deliveries(began, np.array(times))


def in_one_process(config: Config, peers: Sequence[str], folder: Path) -> dict[str, InProcess]:
    """Return the contenders of one process by name.

    Args:
        config: The configuration.
        peers: Those of `PEERS` to include.
        folder: Folder for exports.

    Raises:
        InvalidConfig: A peer is unknown.
    """
    if unknown := [name for name in peers if name not in PEERS]:
        raise InvalidConfig(f"unknown peer {', '.join(unknown)}; known are {', '.join(PEERS)}, all and none")
    chunk = config.pipeline.chunk_size
    own: dict[str, InProcess] = {"loop": BareLoop(config, 1), f"loop-{chunk}": BareLoop(config, chunk)}
    others = {name: UltralyticsTrack(config, folder, openvino=name == ULTRALYTICS_OPENVINO) for name in peers}
    return {**own, **others, "pipeline": Pipeline(config)}


def _chunks(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    while chunk := list(islice(frames, size)):
        yield chunk
