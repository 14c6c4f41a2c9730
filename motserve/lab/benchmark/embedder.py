"""Time per crop of several embedders, measured on the same machine in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig
from motserve.lab.benchmark.timing import no_garbage_collection
from motserve.reid.embedder import CropEmbedder

_WARM_UP_ROUNDS = 2  # the first selects algorithms and allocates memory, the second fills caches


@dataclass(frozen=True, slots=True)
class EmbedderRow:
    """Time of one embedder at one batch size.

    Attributes:
        embedder: Its name.
        parameters: Number of trained values in the network; None where an exported format does not store it.
        dimension: Length of an embedding.
        crop_height: Height of its crops in pixels.
        crop_width: Width of its crops in pixels.
        device: Device it ran on.
        batch: Crops per pass.
        crop_ms: Median time of a pass divided by its crops, in milliseconds.
    """

    embedder: str
    parameters: int | None
    dimension: int
    crop_height: int
    crop_width: int
    device: str
    batch: int
    crop_ms: float


def run(
    embedders: Mapping[str, CropEmbedder],
    batches: Sequence[int],
    rounds: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[EmbedderRow]:
    """Time embedders from crops to embeddings: normalisation, transfer to the device and back, and the network.

    In each round every embedder runs one pass, so that other load on the machine affects all of them alike. Two warm-up
    rounds do not count. The garbage collector is off.

    Args:
        embedders: The embedders by name; each must accept the largest batch in one pass.
        batches: Batch sizes to measure, each at least 1.
        rounds: Measured passes of each, at least 1.
        seed: Seed of the crops, which are noise.
        clock: Monotonic clock in seconds.

    Returns:
        A row for each embedder and batch size, grouped by embedder.

    Raises:
        ValueError: A batch or `rounds` is below 1.
    """
    if rounds < 1 or any(batch < 1 for batch in batches):
        raise ValueError(f"a benchmark needs at least one crop and one round, got {list(batches)} and {rounds}")
    random = np.random.default_rng(seed)
    times: dict[tuple[str, int], list[float]] = {(name, batch): [] for name in embedders for batch in batches}
    with no_garbage_collection():
        for batch in batches:
            sizes = {embedder.crop_size for embedder in embedders.values()}
            crops = {size: random.integers(0, 256, (batch, *size, 3), np.uint8) for size in sorted(sizes)}
            for _ in range(_WARM_UP_ROUNDS + rounds):
                for name, embedder in embedders.items():
                    start = clock()
                    embedder.embed(crops[embedder.crop_size])
                    times[name, batch].append(clock() - start)
    return [
        EmbedderRow(
            name,
            embedders[name].parameters,
            embedders[name].dimension,
            *embedders[name].crop_size,
            embedders[name].device,
            batch,
            float(np.median(passes[_WARM_UP_ROUNDS:])) / batch * 1e3,
        )
        for (name, batch), passes in times.items()
    ]


def untrained(names: Sequence[str] | None, config: ReIDConfig) -> dict[str, CropEmbedder]:
    """Return embedders with random weights; their speed does not depend on the weights.

    Args:
        names: Backbones; None for all.
        config: Device, precision, crop size and batch size.

    Raises:
        InvalidConfig: A name is unknown, or a backbone does not accept the crop size.
    """
    from motserve.reid.backbones import BACKBONES
    from motserve.reid.network import EmbedderNetwork
    from motserve.reid.torch_embedder import TorchEmbedder

    names = tuple(BACKBONES) if names is None else names
    if unknown := [name for name in names if name not in BACKBONES]:
        raise InvalidConfig(f"unknown embedder {', '.join(unknown)}; known are {', '.join(BACKBONES)}")
    size = (config.crop_height, config.crop_width)
    return {name: TorchEmbedder(config, EmbedderNetwork(name, crop_size=size)) for name in names}
