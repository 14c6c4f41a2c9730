"""Object detection with any Ultralytics model: `.pt`, the bundled weights, or an exported format."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection.ultralytics_setup import import_ultralytics
from motserve.device import choose_device
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.types import Detections, Image
from motserve.weights import Weights


class YoloDetector(DetectorBase):
    """A YOLO network behind Ultralytics' predictor. Not safe for concurrent calls: one thread at a time.

    Args:
        config: Thresholds, classes, input size, device and precision.
        weights: What to load: `.pt` and exported formats go through Ultralytics, `.safetensors` holds motserve's own
            state dict with the architecture's name in its metadata.

    Raises:
        InvalidConfig: The device does not exist or a class is not one of the model's.
        WeightsUnavailable: The weights are no detector that can be read.
    """

    def __init__(self, config: DetectorConfig, weights: Weights) -> None:
        device = choose_device(config.device)
        self._model = _load(weights)
        self._names, indices = self._choose_classes(config.classes, weights)
        self._options = {
            "conf": config.confidence,
            "iou": config.nms_iou,
            "imgsz": config.image_size,
            "max_det": config.max_detections,
            "classes": indices,
            "device": device,
            "quantize": 16 if config.half and device.startswith("cuda") else None,
            "verbose": False,
        }

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each class that was asked for, by its index."""
        return self._names

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects in a batch; see `DetectorBase.detect`.

        Pictures of one size go through the network together. Mixing sizes would pad them all to a square, and the
        answer for a picture would depend on its neighbours.
        """
        by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            by_shape[image.shape].append(i)
        found: list[Detections] = [Detections.empty()] * len(images)
        for rows in by_shape.values():
            results = self._model.predict([images[i] for i in rows], **self._options)
            for i, result in zip(rows, results, strict=True):
                found[i] = _to_detections(result.boxes.data.cpu().numpy())
        return found

    def _choose_classes(self, wanted: Sequence[str], weights: Weights) -> tuple[dict[int, str], list[int] | None]:
        """Return the names by index, and the indices for Ultralytics' filter, None for all."""
        names: dict[int, str] = dict(self._model.names)
        if "all" in wanted:
            return names, None
        unknown = set(wanted) - set(names.values())
        if unknown:
            raise InvalidConfig(
                f"detector.classes: {', '.join(sorted(unknown))} not among the classes of {weights.name}: "
                f"{', '.join(names.values())}"
            )
        chosen = {index: name for index, name in names.items() if name in wanted}
        return chosen, list(chosen)


def _to_detections(rows: np.ndarray[Any, np.dtype[np.float32]]) -> Detections:
    """Split `(n, 6)` rows; what clipping at the border left thinner than a pixel shows nobody and is dropped."""
    rows = rows[(rows[:, 2:4] - rows[:, :2] >= 1).all(axis=1)]
    return Detections(
        np.ascontiguousarray(rows[:, :4], np.float32),
        np.ascontiguousarray(rows[:, 4], np.float32),
        rows[:, 5].astype(np.int64),
    )


def _load(weights: Weights) -> Any:
    ultralytics = import_ultralytics()
    try:
        if weights.path.suffix == ".safetensors":
            return _load_state_dict(ultralytics, weights)
        model = ultralytics.YOLO(weights.path, task="detect", verbose=False)
        model.names  # noqa: B018  # exported formats are opened at first use; a broken file shall fail here
    except Exception as error:
        raise WeightsUnavailable(
            f"{weights.path} is no detector that Ultralytics can load ({type(error).__name__}: {error})"
        ) from error
    if model.task != "detect":
        raise WeightsUnavailable(f"{weights.path} is a model for {model.task}, a detector is needed")
    return model


def _load_state_dict(ultralytics: Any, weights: Weights) -> Any:
    from safetensors import safe_open
    from ultralytics.nn.tasks import DetectionModel

    with safe_open(weights.path, framework="pt") as file:
        metadata = file.metadata()
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a mapping
    names = {int(i): name for i, name in json.loads(metadata["names"]).items()}
    architecture = f"{metadata['architecture']}.yaml"
    model = ultralytics.YOLO(architecture, task="detect", verbose=False)
    model.model = DetectionModel(architecture, nc=len(names), verbose=False)  # type: ignore[no-untyped-call]
    model.model.load_state_dict(state)
    model.model.names = names
    return model
