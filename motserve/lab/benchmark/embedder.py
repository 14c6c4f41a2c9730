"""How long embedders take for a crop, all of them on the same machine in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig
from motserve.lab.benchmark.timing import no_garbage_collection
from motserve.reid.embedder import CropEmbedder

_WARM_UP_ROUNDS = 2  # the first chooses algorithms and takes memory, the second fills caches


@dataclass(frozen=True, slots=True)
class EmbedderRow:
    """Time of one embedder at one size of batch.

    Attributes:
        embedder: Its name.
        parameters: Trained values in the network; None where an exported format does not state it.
        dimension: Length of an embedding.
        crop_height: Height of its crops in pixels.
        crop_width: Width of its crops in pixels.
        device: Where it ran.
        batch: Crops in a pass.
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
    """Time embedders from crops to embeddings: normalising, moving to the device and back, and the network.

    In each round every embedder has one pass, so that what else the machine does hits all of them. Two rounds warm up
    and do not count. The garbage collector rests.

    Args:
        embedders: The embedders by name, each taking the largest batch in one pass.
        batches: Crops in a pass, each at least 1.
        rounds: Passes measured of each, at least 1.
        seed: Seed of the crops, which are noise.
        clock: Monotonic clock in seconds.

    Returns:
        A row for each embedder and batch, those of an embedder together.

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
    """Return embedders with random weights, which are as fast as any.

    Args:
        names: Backbones; None for all.
        config: Device, precision, crop size and batch size.

    Raises:
        InvalidConfig: A name is not known, or a backbone cannot take the crops.
    """
    from motserve.reid.backbones import BACKBONES
    from motserve.reid.network import EmbedderNetwork
    from motserve.reid.torch_embedder import TorchEmbedder

    names = tuple(BACKBONES) if names is None else names
    if unknown := [name for name in names if name not in BACKBONES]:
        raise InvalidConfig(f"unknown embedder {', '.join(unknown)}; known are {', '.join(BACKBONES)}")
    size = (config.crop_height, config.crop_width)
    return {name: TorchEmbedder(config, EmbedderNetwork(name, crop_size=size)) for name in names}
