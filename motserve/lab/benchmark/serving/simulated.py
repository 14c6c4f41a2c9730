"""Networks that take a fixed time for each batch and no CPU, and repeat what the real ones found.

With them the service can be measured as if it had an accelerator: what is left is the work around the networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from motserve.base import DetectorBase
from motserve.config import Config
from motserve.errors import InvalidData
from motserve.reid.embedder import CropEmbedder
from motserve.types import Detections, FloatArray, Image

_GRID: Final = 32
"""Pixels of a picture along each side that tell it from others; a checksum of all would use the CPU."""
_CROP_GRID: Final = 8
_WEIGHTS: Final = {"name": "simulated", "sha256": "", "fallback": "", "backend": ""}

Wait = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a detector found in each picture of a clip.

    Attributes:
        class_names: Name of each class index.
        detections: The detections of each picture by its key.
    """

    class_names: Mapping[int, str]
    detections: Mapping[bytes, Detections]


def picture_key(picture: Image) -> bytes:
    """Return a sample of the pixels of a picture, with its size."""
    height, width = picture.shape[:2]
    sample = picture[:: max(1, height // _GRID), :: max(1, width // _GRID)]
    return f"{width}x{height}:".encode() + sample.tobytes()


class SimulatedDetector(DetectorBase):
    """Takes a fixed time for each batch and returns what was recorded.

    Args:
        recording: The detections.
        seconds: Time of a batch of any size.
        wait: Waits for some seconds.
    """

    def __init__(self, recording: Recording, seconds: float, wait: Wait = time.sleep) -> None:
        self._recording = recording
        self._seconds = seconds
        self._wait = wait

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each class index."""
        return self._recording.class_names

    @property
    def backend(self) -> str:
        """Nothing: no library runs it."""
        return ""

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See `DetectorBase.detect`. A black picture, as in a warm-up, has no detections.

        Raises:
            InvalidData: A picture was not recorded.
        """
        began = time.monotonic()
        answers = [self._of(image) for image in images]
        self._wait(max(0.0, self._seconds - (time.monotonic() - began)))
        return answers

    def _of(self, image: Image) -> Detections:
        detections = self._recording.detections.get(picture_key(image))
        if detections is None:
            if image.any():
                raise InvalidData(
                    f"the simulated detector got a picture of {image.shape[1]}x{image.shape[0]} that was not recorded; "
                    "it knows the clip of the benchmark only"
                )
            return Detections.empty()
        return detections


class SimulatedEmbedder(CropEmbedder):
    """Takes a fixed time for each batch and returns a few colours of each crop as its embedding.

    Args:
        crop_size: Height and width of the crops in pixels.
        seconds: Time of a batch of any size.
        wait: Waits for some seconds.
    """

    def __init__(self, crop_size: tuple[int, int], seconds: float, wait: Wait = time.sleep) -> None:
        self._crop_size = crop_size
        self._seconds = seconds
        self._wait = wait

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self._sample(np.zeros((1, *self._crop_size, 3), np.uint8)).shape[1])

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of the crops in pixels."""
        return self._crop_size

    @property
    def device(self) -> str:
        """No device is used."""
        return "simulated"

    @property
    def backend(self) -> str:
        """Nothing: no library runs it."""
        return ""

    def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """See `ReIDBase.embed`."""
        began = time.monotonic()
        vectors = self._sample(crops).astype(np.float32) + 1  # so that a black crop has a direction too
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self._wait(max(0.0, self._seconds - (time.monotonic() - began)))
        return vectors

    def _sample(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        steps = [max(1, side // _CROP_GRID) for side in self._crop_size]
        return crops[:, :: steps[0], :: steps[1]].reshape(len(crops), -1)


@dataclass(frozen=True, slots=True)
class SimulatedNetworks:
    """Gives the replicas of a service simulated networks, see `motserve.serving.inference.loading.Networks`.

    Attributes:
        recording: What the detector returns.
        detector_s: Seconds of a batch of the detector.
        embedder_s: Seconds of a batch of the embedder.
    """

    recording: Recording
    detector_s: float
    embedder_s: float

    def detector(self, _: Config) -> tuple[DetectorBase, dict[str, str]]:
        """Return the detector and the description of its weights."""
        return SimulatedDetector(self.recording, self.detector_s), dict(_WEIGHTS)

    def embedder(self, config: Config) -> tuple[CropEmbedder, dict[str, str]]:
        """Return the embedder and the description of its weights."""
        crop_size = config.reid.crop_height, config.reid.crop_width
        return SimulatedEmbedder(crop_size, self.embedder_s), dict(_WEIGHTS)
