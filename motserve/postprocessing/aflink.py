"""AFLink: the probability that two tracklets are the same person, from their motion alone.

Reference: Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023. As there,
convolutions along time process each coordinate, one across the coordinates combines them, and a small head compares the
two tracklets. The reference uses frames and pixels; here a tracklet is sampled in seconds and person heights, so that
one set of weights fits any frame rate and resolution, and the height is a coordinate too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import nn

from motserve.errors import WeightsUnavailable
from motserve.postprocessing.tracklet import Tracklet
from motserve.types import FloatArray

COORDINATES = 4
"""Time in seconds, x and y in heights, and logarithm of the height."""

_KERNEL = 7
_PAIRS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Shape:
    """Input and size of a network.

    Attributes:
        span_s: Seconds of a tracklet, before or after the gap, that are used.
        points: Points at which these are sampled.
        channels: Channels of the convolutions along time.
    """

    span_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    points: Annotated[int, Field(ge=2)] = 16
    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (8, 16, 32, 32)


class AFLink(nn.Module):
    """The network: `(n, 2, points, 4)` of an earlier and a later tracklet to `(n,)` logits of being the same person.

    Args:
        shape: Input and size.
        dropout: Share of the features that are dropped in training.
    """

    def __init__(self, shape: Shape | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape or Shape()
        widths = (1, *self.shape.channels)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, (_KERNEL, 1), padding=(_KERNEL // 2, 0), bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        last = widths[-1]
        layers += [nn.Conv2d(last, last, (1, COORDINATES), bias=False), nn.BatchNorm2d(last), nn.ReLU(inplace=True)]
        # the name is part of the keys in weight files
        self.piece = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * last, last), nn.ReLU(inplace=True), nn.Linear(last, 1)
        )

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        n = len(pairs)
        features = self.piece(pairs.reshape(2 * n, 1, self.shape.points, COORDINATES))
        logits: torch.Tensor = self.head(features.reshape(n, -1))[:, 0]
        return logits


class AFLinkScorer:
    """Scores pairs of tracklets with a trained network, on the CPU: it is small.

    Args:
        network: The network.
    """

    def __init__(self, network: AFLink) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, path: Path) -> AFLinkScorer:
        """Read a network that `training.linker` wrote.

        Raises:
            WeightsUnavailable: The file does not exist, or is not such a network.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get("shape", "null"))
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            if metadata is None:
                raise ValueError("it has no `shape` in its metadata")
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("numbers in it are not finite")
            network = AFLink(TypeAdapter(Shape).validate_python(metadata))
            network.load_state_dict(tensors)
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            raise WeightsUnavailable(f"{path} holds no weights of AFLink: {error}") from error
        return cls(network)

    def __call__(self, pairs: Sequence[tuple[Tracklet, Tracklet]]) -> NDArray[np.float64]:
        """Return the probability that each pair is the same person.

        Args:
            pairs: An earlier tracklet and one that begins later.

        Returns:
            `(n,)` float64 in [0, 1].
        """
        scores = [np.empty(0)]
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            batch = np.stack([encode(*pair, self._network.shape) for pair in pairs[start : start + _PAIRS_AT_ONCE]])
            with torch.inference_mode():
                scores.append(self._network(torch.from_numpy(batch)).sigmoid().double().numpy())
        return np.concatenate(scores)


def encode(before: Tracklet, after: Tracklet, shape: Shape) -> FloatArray:
    """Return the network's input for a pair.

    Args:
        before: The earlier tracklet.
        after: The later tracklet.
        shape: The sampling.

    Returns:
        `(2, points, 4)` float32: the end of the first and the beginning of the second, in the order of time, with the
        end of the first at the origin and its height as the unit of length.
    """
    end, begin = before.times[-1], after.times[0]
    first = np.linspace(max(end - shape.span_s, before.times[0]), end, shape.points)
    second = np.linspace(begin, min(begin + shape.span_s, after.times[-1]), shape.points)
    coordinates = np.concatenate([_sampled(before, first), _sampled(after, second)])
    _, x, y, height = coordinates[shape.points - 1]
    coordinates -= (end, x, y, 0)
    coordinates[:, 1:3] /= height
    coordinates[:, 3] = np.log(coordinates[:, 3] / height)
    return coordinates.reshape(2, shape.points, COORDINATES).astype(np.float32)


def _sampled(tracklet: Tracklet, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `(n, 4)` time, centre x and y, and height of a tracklet at `(n,)` times."""
    boxes = tracklet.boxes.astype(np.float64)
    left, top, right, bottom = (np.interp(times, tracklet.times, edge) for edge in boxes.T)
    return np.stack([times, (left + right) / 2, (top + bottom) / 2, np.maximum(bottom - top, 1.0)], axis=1)
