"""A registry of tiny models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from motserve.config import MlflowConfig
from motserve.config.base import Role
from motserve.models.checksums import checksum
from motserve.models.registry import Card, Registry, Scores, Version, write_card
from training.run_log import RunLog

VAL = "v" * 64
"""Key of the data set on which models are scored."""


def make_model(
    folder: Path, value: float, metrics: Mapping[str, float], role: Role = "detector", key: str = VAL
) -> Path:
    """Write a model with its card."""
    folder.mkdir(parents=True)
    weights = folder / f"{role}.safetensors"
    save_file({"value": np.array([value], np.float32)}, weights, {"names": json.dumps({0: "person"})})
    scores = (Scores("val", key, metrics),) if metrics else ()
    write_card(folder, Card(role, weights.name, checksum(weights), "yolov8n", {}, scores))
    return folder


def add_version(
    store: MlflowConfig,
    folder: Path,
    name: str,
    value: float,
    metrics: Mapping[str, float],
    role: Role = "detector",
    key: str = VAL,
) -> Version:
    """Write a model, log it in a new run and register it."""
    model = make_model(folder / f"{name}-{value}-{key[0]}", value, metrics, role, key)
    log = RunLog.create(store, f"{name}-{value}", {}, {}, "")
    with log.ending():
        log.artifacts(model, "model")
        return Registry(store).register(name, model, log.run_id)
