"""Tiny data sets of drawn people, and settings with which an embedder is trained on them in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.reid.config import ReidTrainingConfig


def draw_crop(person: int, camera: int, view: int) -> np.ndarray:
    """Draw a person with the colours of shirt and trousers, in the light of a camera."""
    colours = np.random.default_rng(person).integers(0, 256, (2, 3))
    rng = np.random.default_rng([person, camera, view])
    crop = np.full((40, 20, 3), 60 * camera, np.float32)
    left = int(rng.integers(3, 7))
    crop[6:22, left : left + 10] = colours[0]
    crop[22:38, left : left + 10] = colours[1]
    return np.clip(crop + rng.normal(0, 8, crop.shape), 0, 255).astype(np.uint8)


def write_crops(folder: Path, people: Iterable[int], cameras: Iterable[int] = (1, 2), views: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    cameras = list(cameras)
    for person in people:
        for camera in cameras:
            for view in range(views):
                name = f"{person:04d}_c{camera}s1_{view:06d}_01.png"
                cv2.imwrite(str(folder / name), draw_crop(person, camera, view))
    return folder


def write_market(root: Path, people: int = 10) -> Path:
    """Write a data set in the layout of Market-1501; its test people are not in the training split."""
    write_crops(root / "bounding_box_train", range(1, people + 1))
    write_crops(root / "query", range(101, 107), [1], 1)
    write_crops(root / "bounding_box_test", range(101, 107), [2], 2)
    return root


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **below,
        **{
            key: merged(below[key], value) if isinstance(below.get(key), dict) and isinstance(value, dict) else value
            for key, value in above.items()
        },
    }


def tiny_settings(root: Path, runs: Path, name: str = "tiny", **changes: Any) -> ReidTrainingConfig:
    """Return settings of a small network on small crops, with all output below `runs`."""
    tree = {
        "name": name,
        "data": {"root": root, "validation_share": 0.2},
        "network": {"backbone": "mobilenet_v3_small", "dimension": 16, "init": "scratch", "norm_momentum": 0.1},
        "crops": {"height": 32, "width": 16, "pad": 2},
        "batch": {"identities": 4, "views": 2},
        "schedule": {"epochs": 3, "learning_rate": 1e-3, "warmup_epochs": 1, "milestones": [2]},
        "validation": {"every": 1},
        "pictures": {"queries": 2, "matches": 3, "ranks": 5, "bins": 10},
        "compute": {"workers": 0, "storage": str(runs / "training")},
        "log_dir": str(runs / "logs"),
        "mlflow": {"tracking_uri": f"sqlite:///{runs}/mlflow.db", "artifact_dir": str(runs / "artifacts")},
    }
    return ReidTrainingConfig(**merged(tree, changes))
