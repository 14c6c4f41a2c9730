"""Runs the configured postprocessing on the tracks of a whole file."""

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
    """Links identities by appearance and by motion, then fills gaps and smooths boxes; each step where configured.

    Args:
        config: `regrouping`, `linking`, `interpolation` and, for the first, `reid` are used.

    Attributes:
        weights: Description of the weights of linking by role, from `Weights.describe`; empty without linking.

    Raises:
        WeightsUnavailable: The weights of linking cannot be read.
    """

    def __init__(self, config: Config) -> None:
        self._linking, self._interpolation = config.linking, config.interpolation
        self._regrouping, self._reid = config.regrouping, config.reid
        self._score: Score | None = None
        self.weights: dict[str, dict[str, str]] = {}
        if config.linking is not None:
            # torch takes seconds to import and is needed for linking only
            from motserve.postprocessing.aflink import AFLinkScorer

            name = config.linking.weights
            file = resources.files("motserve.models.bundled") / "aflink.safetensors" if name == _BUNDLED else name
            path = Path(str(file))
            self._score = AFLinkScorer.load(path)
            self.weights["linking"] = Weights(name, path, checksum(path), fallback="").describe()

    def __bool__(self) -> bool:
        """Whether any step is configured."""
        return any(part is not None for part in (self._regrouping, self._linking, self._interpolation))

    def new_history(self, picture: tuple[int, int] | None = None) -> EmbeddingHistory | None:
        """Return an empty history that collects the embeddings of a video during tracking; None if it is not needed.

        Args:
            picture: Width and height of the video in pixels, None where they are not known.
        """
        return (
            EmbeddingHistory(self._regrouping.num_embeddings, picture)
            if self._regrouping and self._reid.policy != "off"
            else None
        )

    def __call__(self, frames: Sequence[TrackedFrame], history: EmbeddingHistory | None = None) -> list[TrackedFrame]:
        """Return the postprocessed frames.

        Args:
            frames: Every frame of a video, in order.
            history: The embeddings collected during tracking.
        """
        finished = list(frames)
        if self._regrouping is not None and history is not None:
            finished = regroup(finished, history.embeddings(), self._regrouping, self._reid, history.picture)
        if self._linking is not None and self._score is not None:
            finished = link_identities(finished, self._linking, self._score)
        if self._interpolation is not None:
            finished = fill_gaps(finished, self._interpolation)
        return finished
