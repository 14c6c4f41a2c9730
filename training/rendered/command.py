"""Renders pictures of people with labels, in the layout of YOLO: `python -m training.rendered --output FOLDER`.

The data set serves to try out training without other data; a detector trained on it detects rendered people.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml

from motserve.config.loading.yaml_files import read_settings
from motserve.config.paths import local_path
from motserve.lab.scenes import Shot
from training.dir_cache import make_once
from training.progress import Say, duration, quiet
from training.rendered.config import RenderedConfig, RenderedPictures
from training.rendered.pictures import pictures
from training.terminal import job_terminal, run

NAMES = {0: "person"}
SEED_STEP = {"train": 0, "val": 1}
"""Offset of the seed of each split, so that validation has other pictures than training."""

DATA_SETTINGS = {"pictures", "train_pictures", "validation_pictures", "min_visibility"}
"""Settings that affect the pictures and labels."""

SMALLEST_PIXELS = 6
"""Minimum height of a clipped, labelled box in pixels; its minimum width is half of it. Smaller ones are dropped."""


def write_dataset(settings: RenderedPictures, seed: int, folder: Path, say: Say = quiet) -> Path:
    """Render the pictures in YOLO layout; a finished folder of the same settings is reused.

    Args:
        settings: The pictures.
        seed: Seed of all random numbers.
        folder: Folder of the data set.
        say: Prints a line for each split that is rendered.

    Returns:
        The YAML file that describes the data set.
    """
    stamp = json.dumps([settings.model_dump(include=DATA_SETTINGS), seed], sort_keys=True)
    data = folder / "data.yaml"

    def render() -> None:
        for part, count in (("train", settings.train_pictures), ("val", settings.validation_pictures)):
            say(f"rendering {count} pictures for {part}")
            shots = pictures(settings.pictures, 2 * seed + SEED_STEP[part], count)
            write_part(folder, part, ((shot, settings.min_visibility) for shot, _ in shots))
        description = {"path": str(folder.resolve()), "train": "images/train", "val": "images/val", "names": NAMES}
        data.write_text(yaml.safe_dump(description), encoding="utf-8")

    make_once(folder, stamp, render)
    return data


def write_part(folder: Path, part: str, shots: Iterable[tuple[Shot, float]]) -> None:
    """Write pictures and labels of a split in YOLO layout.

    Args:
        folder: Folder of the data set.
        part: Name of the split.
        shots: Pictures, each with the minimum visibility of a labelled person.
    """
    for kind in ("images", "labels"):
        (folder / kind / part).mkdir(parents=True)
    for index, (shot, min_visibility) in enumerate(shots):
        name = f"{index:06d}"
        cv2.imwrite(str(folder / "images" / part / f"{name}.jpg"), shot.image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        (folder / "labels" / part / f"{name}.txt").write_text(labels_of(shot, min_visibility), encoding="utf-8")


def labels_of(shot: Shot, min_visibility: float) -> str:
    """Return lines of `class x y w h`, centre and size as fractions of the picture, for all visible people.

    Args:
        shot: The picture and its people.
        min_visibility: Minimum visibility of a labelled person.
    """
    height, width = shot.image.shape[:2]
    boxes = np.clip(shot.boxes, 0, (width, height, width, height))
    size = boxes[:, 2:] - boxes[:, :2]
    is_labelled = (shot.visibility >= min_visibility) & (size[:, 1] >= SMALLEST_PIXELS)
    is_labelled &= size[:, 0] >= SMALLEST_PIXELS / 2
    rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, size], axis=1)[is_labelled] / (
        width,
        height,
        width,
        height,
    )
    return "".join("0 " + " ".join(f"{value:.6f}" for value in row) + "\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Render; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.rendered", description=__doc__)
    parser.add_argument(
        "--config", type=local_path, default=Path("configs/training/rendered.yaml"), help="settings, YAML"
    )
    parser.add_argument("--output", type=local_path, default=Path("data/rendered"), help="folder of the data set")
    parser.add_argument("--logs", action="store_true", help="also print the logs of libraries")
    chosen = parser.parse_args(arguments)

    def render() -> None:
        settings = read_settings(chosen.config, RenderedConfig)
        log = chosen.output.with_name(f"{chosen.output.name}.log")
        with job_terminal(log, chosen.logs) as say:
            started = time.monotonic()
            data = write_dataset(settings, settings.seed, chosen.output, say)
            say(f"done in {duration(time.monotonic() - started)}: {data}")

    again = shlex.join(["python", "-m", "training.rendered", *(sys.argv[1:] if arguments is None else arguments)])
    return run(render, f"the data set is incomplete; to start again: {again}")
