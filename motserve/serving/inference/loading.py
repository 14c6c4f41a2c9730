"""Loads the model of a role for a replica, and warms it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from motserve.base import DetectorBase
from motserve.config import Config, change_config
from motserve.config.base import Role
from motserve.detection import build_detector
from motserve.models.backend import describe_backend
from motserve.models.weights import resolve_weights
from motserve.reid import build_embedder
from motserve.reid.embedder import CropEmbedder
from motserve.serving.inference.backends import ModelInfo, Names
from motserve.serving.inference.conversion import convert_apart
from motserve.types import FloatArray


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        info: Its description.
        run: Returns one answer for each item of a batch.
        join: Makes the answer to a request from the answers to its items.
    """

    info: ModelInfo
    run: Callable[[list[Any]], Sequence[Any]]
    join: Callable[[list[Any]], Any]


class Networks(Protocol):
    """Builds the networks that replicas run; a benchmark may simulate them."""

    def detector(self, config: Config) -> tuple[DetectorBase, dict[str, str]]:
        """Return the detector of a configuration and the description of its weights."""

    def embedder(self, config: Config) -> tuple[CropEmbedder, dict[str, str]]:
        """Return the embedder of a configuration and the description of its weights."""


class ConfiguredNetworks:
    """Loads the weights that the configuration names."""

    def detector(self, config: Config) -> tuple[DetectorBase, dict[str, str]]:
        """See `Networks.detector`."""
        weights = resolve_weights("detector", config)
        convert_apart("detector", config, weights)
        detector = build_detector(config.detector, weights, config.cache_dir)
        return detector, {**weights.describe(), **describe_backend(detector.backend)}

    def embedder(self, config: Config) -> tuple[CropEmbedder, dict[str, str]]:
        """See `Networks.embedder`."""
        weights = resolve_weights("reid", config)
        convert_apart("reid", config, weights)
        embedder = build_embedder(config.reid, weights, config.cache_dir)
        return embedder, {**weights.describe(), **describe_backend(embedder.backend)}


def load_model(role: Role, config: Config, names: Names, networks: Networks) -> LoadedModel:
    """Load the named weights of a role.

    Raises:
        WeightsUnavailable: None of them can be loaded.
    """
    config = change_config(config, {role: {"weights": list(names)}})
    return _load_detector(config, networks) if role == "detector" else _load_embedder(config, networks)


def _load_detector(config: Config, networks: Networks) -> LoadedModel:
    detector, weights = networks.detector(config)
    side = config.detector.image_size
    detector.detect([np.zeros((side, side, 3), np.uint8)])  # warm-up: the first run is slow
    return LoadedModel(ModelInfo(weights, dict(detector.class_names)), detector.detect, list)


def _load_embedder(config: Config, networks: Networks) -> LoadedModel:
    embedder, weights = networks.embedder(config)

    def embed(crops: list[NDArray[np.uint8]]) -> Sequence[FloatArray]:
        return list(embedder.embed(np.stack(crops)))

    embed([np.zeros((config.reid.crop_height, config.reid.crop_width, 3), np.uint8)])  # warm-up
    return LoadedModel(ModelInfo(weights), embed, np.stack)
