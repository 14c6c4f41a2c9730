"""All that a configuration asks to be done with the tracks of a whole file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from motserve.config import Config
from motserve.models.checksums import checksum
from motserve.models.weights import Weights
from motserve.postprocessing.gaps import fill_gaps
from motserve.postprocessing.linking import Score, link_identities
from motserve.postprocessing.regrouping import EmbeddingHistory, regroup
from motserve.types import TrackedFrame

_BUNDLED: Final = "bundled"


class PostProcessor:
    """Joins identities, by looks and by motion, then fills their gaps and smooths their boxes, each where configured.

    Args:
        config: `regrouping`, `linking`, `interpolation` and, for the first, `reid` are used.

    Attributes:
        weights: What judges joints, as `Weights.describe` says it, by role; empty where nothing is joined.

    Raises:
        WeightsUnavailable: The weights that judge joints cannot be read.
    """

    def __init__(self, config: Config) -> None:
        self._linking, self._interpolation = config.linking, config.interpolation
        self._regrouping, self._reid = config.regrouping, config.reid
        self._score: Score | None = None
        self.weights: dict[str, dict[str, str]] = {}
        if config.linking is not None:
            # torch takes seconds to import, and who joins nothing needs none
            from motserve.postprocessing.aflink import AFLinkScorer

            name = config.linking.weights
            file = resources.files("motserve.models.bundled") / "aflink.safetensors" if name == _BUNDLED else name
            path = Path(str(file))
            self._score = AFLinkScorer.load(path)
            self.weights["linking"] = Weights(name, path, checksum(path), fallback="").describe()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return any(part is not None for part in (self._regrouping, self._linking, self._interpolation))

    def book(self, picture: tuple[int, int] | None = None) -> EmbeddingHistory | None:
        """Return what is to gather the looks of a video while it is tracked; None where they are not needed.

        Args:
            picture: Width and height of the video in pixels, where they are known.
        """
        return (
            EmbeddingHistory(self._regrouping.num_embeddings, picture)
            if self._regrouping and self._reid.policy != "off"
            else None
        )

    def __call__(self, frames: Sequence[TrackedFrame], book: EmbeddingHistory | None = None) -> list[TrackedFrame]:
        """Return the finished frames.

        Args:
            frames: Every frame of a video, in order.
            book: The looks that were gathered.
        """
        finished = list(frames)
        if self._regrouping is not None and book is not None:
            finished = regroup(finished, book.looks(), self._regrouping, self._reid, book.picture)
        if self._linking is not None and self._score is not None:
            finished = link_identities(finished, self._linking, self._score)
        if self._interpolation is not None:
            finished = fill_gaps(finished, self._interpolation)
        return finished
