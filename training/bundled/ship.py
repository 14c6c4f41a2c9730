"""Writes trained weights into the package: in half precision, with provenance and scores as metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import orjson
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from motserve.errors import InvalidData, NotFound
from motserve.files.atomic import replacing
from motserve.models.registry import Card, read_card
from training.bundled.make import ALL, FREE, SCORES, Workspace, free_workspace
from training.half_precision import half_precision

COMMAND: Final = "make bundled"
_RATIOS: Final = ("mAP50", "mAP50-95")
_AGREEMENT: Final = ("recall", "agreeing", "teacher_recall", "teacher_agreeing")
_FOUND: Final = ("Rank-1", "mAP")
_PERCENT: Final = 100.0


def ship(workspace: Workspace, folder: Path) -> list[Path]:
    """Write the weights of detector and embedder, and those that are free for commercial use.

    Args:
        workspace: Folders and settings of the training.
        folder: The folder of the package.

    Returns:
        The files.

    Raises:
        NotFound: A model is not trained yet.
        InvalidData: A value cannot be written in half precision.
    """
    models = {
        "detector": (workspace.model(ALL), detector_metrics(workspace, lambda group: f"without-{group}")),
        "detector-free": (workspace.model(FREE), detector_metrics(workspace, lambda _: FREE)),
    }
    for name, place in (("embedder", workspace), ("embedder-free", free_workspace(workspace))):
        embedder = place.model("embedder")
        models[name] = embedder, _embedder_metrics(embedder)
    return [
        _write(model, folder / f"{name}.safetensors", workspace, metrics) for name, (model, metrics) in models.items()
    ]


def detector_metrics(workspace: Workspace, trained_without: Callable[[str], str]) -> dict[str, float]:
    """Return the scores of detectors on the sources that they were trained without, and the means over the sources.

    Args:
        workspace: Folders and settings of the training.
        trained_without: Returns the name of the detector that has seen no source of a group.

    Raises:
        NotFound: The detector of a group of left-out sources is not trained yet.
    """
    metrics: dict[str, float] = {}
    for sources, names in ((workspace.settings.scenes, _RATIOS), (workspace.settings.photographs, _AGREEMENT)):
        scores = {
            source.name: _scores(workspace.model(trained_without(source.left_out)))[source.name]
            for source in sources
            if source.left_out is not None
        }
        for name in names:
            # null where there is nothing to divide by, such as the share of no boxes
            known = {source: one[name] for source, one in scores.items() if one[name] is not None}
            metrics |= {f"{source}/{name}": round(value, 4) for source, value in known.items()}
            if known:
                metrics[f"mean/{name}"] = round(fmean(known.values()), 4)
    return metrics


def _embedder_metrics(model: Path) -> dict[str, float]:
    """Return the retrieval scores of the embedder on people that are not in its training data."""
    card = _card(model)
    return {
        f"{one.data.split(',')[0]}/{name}": round(value / _PERCENT, 4)
        for one in card.scores
        for name, value in one.metrics.items()
        if name in _FOUND
    }


def _write(model: Path, file: Path, workspace: Workspace, metrics: Mapping[str, float]) -> Path:
    source = model / _card(model).weights
    with safe_open(source, framework="pt") as weights:
        metadata = dict(weights.metadata())
    state = half_precision(load_file(source))
    for name, values in state.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise InvalidData(f"{name} of {source} has values beyond the range of half precision")
    metadata |= {"command": COMMAND, "seed": str(workspace.settings.seed), "metrics": json.dumps(metrics)}
    with replacing(file) as partial:
        save_file(state, partial, metadata)
    workspace.say(f"written: {file}")
    return file


def _scores(model: Path) -> Mapping[str, Any]:
    _card(model)
    return dict(orjson.loads((model / SCORES).read_bytes()))


def _card(model: Path) -> Card:
    if not model.is_dir():
        raise NotFound(f"{model} does not exist; it is not trained yet")
    return read_card(model)
