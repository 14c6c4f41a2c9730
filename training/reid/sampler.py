"""Draws the batches of the triplet loss: P people with K crops each (Hermans et al., 2017), shared among workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from motserve.types import IntArray


class Draw(NamedTuple):
    """One crop of a batch.

    Attributes:
        row: Index of the crop.
        seed: Seed of its augmentation.
    """

    row: int
    seed: int


@dataclass(frozen=True, slots=True)
class Share:
    """A worker's part of every batch.

    Attributes:
        rank: Its number among the workers, from 0.
        count: Number of workers.
    """

    rank: int
    count: int


class PKBatches(Sampler[list[Draw]]):
    """The batches of one worker, epoch by epoch; all workers have the same number per epoch.

    The batches of all workers together depend on seed and epoch only: a resumed job and a job with more workers use
    the same crops. In an epoch each person is in at least one batch; most crops are drawn once. People with fewer than
    K crops have some of them twice in a batch.

    Args:
        labels: `(n,)` int64, the class of each crop.
        identities: P of the batch of all workers, divided equally among them.
        views: K.
        seed: Seed, combined with the epoch.
        share: Rank and number of workers.

    Attributes:
        epoch: The epoch that is drawn next, counted from 1.

    Raises:
        ValueError: P is not a multiple of the number of workers, or there are fewer people than P.
    """

    def __init__(self, labels: IntArray, identities: int, views: int, seed: int, share: Share) -> None:
        self.epoch = 1
        self._crops = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        if identities % share.count or identities > len(self._crops):
            raise ValueError(
                f"P {identities} must be a multiple of {share.count} workers and at most {len(self._crops)} people"
            )
        self._identities = identities
        self._views = views
        self._seed = seed
        self._share = share

    def __iter__(self) -> Iterator[list[Draw]]:
        size = self._identities // self._share.count * self._views
        part = slice(self._share.rank * size, (self._share.rank + 1) * size)
        for batch in self._plan():
            yield batch[part]

    def __len__(self) -> int:
        return len(self._plan())

    def _plan(self) -> list[list[Draw]]:
        """Return the batches of all workers together."""
        rng = np.random.default_rng([self._seed, self.epoch])
        groups = [self._groups(crops, rng) for crops in self._crops]
        absent = set(range(len(groups)))
        batches = []
        while len(waiting := np.flatnonzero([len(of_person) > 0 for of_person in groups])) >= self._identities:
            people = rng.choice(waiting, self._identities, replace=False)
            absent -= set(people.tolist())
            batches.append([groups[person].pop() for person in people])
        if absent:  # fewer than a batch: fill it with other people
            others = np.setdiff1d(np.arange(len(groups)), sorted(absent))
            filling = rng.choice(others, self._identities - len(absent), replace=False)
            people = rng.permutation([*sorted(absent), *filling.tolist()])
            batches.append([self._groups(self._crops[person], rng)[0] for person in people])
        rows = [np.concatenate(batch) for batch in batches]
        return [
            [Draw(int(row), int(seed)) for row, seed in zip(batch, rng.integers(2**63, size=len(batch)), strict=True)]
            for batch in rows
        ]

    def _groups(self, crops: IntArray, rng: np.random.Generator) -> list[IntArray]:
        """Divide a person's crops into random groups of K; the remainder is not used in this epoch."""
        if len(crops) < self._views:
            # each at least once
            more = rng.choice(crops, self._views - len(crops), replace=True)
            return [rng.permutation(np.concatenate([crops, more]))]
        shuffled = rng.permutation(crops)
        return np.split(shuffled[: len(crops) // self._views * self._views], len(crops) // self._views)
