"""Raises or lowers the scores of a trained detector, so that the default threshold suits it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from motserve.errors import InvalidData
from motserve.files.atomic import replacing

_SCORE_BIAS: Final = re.compile(r"\.cv3\.\d+\.\d+\.bias$")
"""Name of the summand of a scale's scores in a detector of Ultralytics."""


def shift_scores(weights: Path, output: Path, shift: float) -> None:
    """Write weights of a detector with other scores; its boxes and their order stay.

    Args:
        weights: Weights of a detector, `.safetensors`.
        output: The file to write.
        shift: Summand of the logits of all scores. Raised, the same threshold gives more people and more false
            detections.

    Raises:
        InvalidData: The weights have no scores of a detector of Ultralytics.
    """
    state = load_file(weights)
    with safe_open(weights, framework="pt") as file:
        metadata = dict(file.metadata() or {})
    names = [name for name in state if _SCORE_BIAS.search(name)]
    if not names:
        raise InvalidData(f"{weights} is not a detector of Ultralytics: it has no scores")
    for name in names:
        state[name] = state[name] + shift
    with replacing(output) as partial:
        save_file(state, partial, metadata)
