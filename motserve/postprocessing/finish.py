"""All that a configuration asks to be done with the tracks of a whole file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from motserve.config import Config
from motserve.postprocessing.gaps import fill_gaps
from motserve.postprocessing.linking import link_identities
from motserve.types import TrackedFrame

_BUNDLED: Final = "bundled"


def finish_tracks(frames: Sequence[TrackedFrame], config: Config) -> list[TrackedFrame]:
    """Join identities, then fill their gaps and smooth their boxes, each where it is configured.

    Args:
        frames: Every frame of a video, in order.
        config: `linking` and `interpolation` are used.

    Raises:
        WeightsUnavailable: The weights that judge joints cannot be read.
    """
    finished = list(frames)
    if config.linking is not None:
        # torch takes seconds to import, and who joins nothing needs none
        from motserve.postprocessing.aflink import AFLinkScorer

        weights = config.linking.weights
        path = resources.files("motserve.bundled") / "aflink.safetensors" if weights == _BUNDLED else Path(weights)
        finished = link_identities(finished, config.linking, AFLinkScorer.load(Path(str(path)).expanduser()))
    if config.interpolation is not None:
        finished = fill_gaps(finished, config.interpolation)
    return finished


def is_finished(config: Config) -> bool:
    """Tell whether `finish_tracks` would change anything."""
    return config.linking is not None or config.interpolation is not None
