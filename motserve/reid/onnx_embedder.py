"""Embedders in ONNX format, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.weights import Weights
from motserve.reid.embedder import CropEmbedder
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD, unit_length
from motserve.types import FloatArray

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

# normalise values from 0 to 255, for each channel
_SCALE = (1 / (255 * IMAGENET_STD)).reshape(3, 1, 1)
_SHIFT = (-IMAGENET_MEAN / IMAGENET_STD).reshape(3, 1, 1)


class OnnxEmbedder(CropEmbedder):
    """A network with one picture input `(n, 3, height, width)` and one output `(n, dimension)`.

    Args:
        config: Device, batch size, crop size where the graph accepts any, and pixel format of the input (`onnx_input`).
        weights: The `.onnx` file.

    Raises:
        InvalidConfig: This ONNX Runtime cannot use the device, or the feature is not available from a graph.
        WeightsUnavailable: The file cannot be loaded or has another shape of input.
    """

    def __init__(self, config: ReIDConfig, weights: Weights) -> None:
        import onnxruntime

        if config.feature == "before_norm":
            raise InvalidConfig(
                f"reid.feature before_norm: {weights.path.name} has one output, not the one before its batch norm; "
                "use after_norm"
            )
        providers = _providers(config.device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(weights.path, options, providers=providers)
        except Exception as error:
            raise WeightsUnavailable(f"{weights.path} cannot be loaded by ONNX Runtime: {error}") from error
        picture = self._session.get_inputs()[0]
        if len(picture.shape) != 4 or picture.shape[1] != 3:
            raise WeightsUnavailable(
                f"{weights.path} has an input of shape {picture.shape}; an embedder has (n, 3, height, width)"
            )
        self._input = picture.name
        self._half = picture.type == "tensor(float16)"
        batch, _, height, width = picture.shape
        self._size = (
            width if isinstance(width, int) else config.crop_width,
            height if isinstance(height, int) else config.crop_height,
        )
        self._fixed_batch = batch if isinstance(batch, int) else None
        self._batch = self._fixed_batch or config.batch_size
        self._bgr255 = config.onnx_input == "bgr255"
        self._dimension: int = self._run(np.zeros((1, *self.crop_size, 3), np.uint8)).shape[1]

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._dimension

    @property
    def backend(self) -> str:
        """Library that runs the network."""
        return "onnxruntime"

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width in pixels of the network's input; other crops are resized."""
        width, height = self._size
        return height, width

    @property
    def device(self) -> str:
        """Where the network runs, such as `cpu` or `cuda:0`."""
        if self._session.get_providers()[0] != _CUDA:
            return "cpu"
        return f"cuda:{self._session.get_provider_options()[_CUDA]['device_id']}"

    def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed a batch; see `ReIDBase.embed`."""
        parts = [self._run(crops[i : i + self._batch]) for i in range(0, len(crops), self._batch)]
        return np.concatenate(parts) if parts else np.empty((0, self._dimension), np.float32)

    def _run(self, crops: NDArray[np.uint8]) -> FloatArray:
        # in one call: resize where needed, swap channels and move them to the front
        pixels = np.asarray(cv2.dnn.blobFromImages(list(crops), size=self._size, swapRB=not self._bgr255), np.float32)
        if not self._bgr255:
            pixels *= _SCALE
            pixels += _SHIFT
        batch = pixels.astype(np.float16) if self._half else pixels
        if self._fixed_batch and len(batch) < self._fixed_batch:
            batch = np.concatenate([batch, np.zeros((self._fixed_batch - len(batch), *batch.shape[1:]), batch.dtype)])
        output = self._session.run(None, {self._input: batch})[0][: len(crops)]
        return unit_length(output.reshape(len(crops), -1).astype(np.float32))


def _providers(device: str, available: Sequence[str]) -> list[str | tuple[str, dict[str, int]]]:
    """Return the execution providers of ONNX Runtime, the preferred one first."""
    if device == "cpu" or (device == "auto" and _CUDA not in available):
        return [_CPU]
    if device == "mps" or _CUDA not in available:
        raise InvalidConfig(
            f"reid.device {device}: this ONNX Runtime runs on {', '.join(available)}; "
            "use `auto` or `cpu`, or install onnxruntime-gpu for CUDA"
        )
    return [(_CUDA, {"device_id": int(device.partition(":")[2] or 0)}), _CPU]
