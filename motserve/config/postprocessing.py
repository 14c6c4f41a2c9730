"""The sections of the configuration for postprocessing the tracks of a whole file."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section
from motserve.config.paths import NameOrPath


class LinkingConfig(Section):
    """Merging of identities by motion (AFLink): one begins where another ended."""

    weights: NameOrPath = Field("bundled", description="`bundled`, or a file written by `python -m training.linker`.")
    max_gap_s: float = Field(
        2.0,
        gt=0,
        le=600,
        description="Longest time in seconds between the end of one identity and the beginning of the next. Raised, "
        "more identities are merged, right and wrong ones.",
    )
    max_distance: float = Field(1.5, gt=0, le=100, description="Largest distance between the two, in body heights.")
    min_score: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Lowest probability of a match by the network. Lowered, more identities are merged, right and "
        "wrong ones.",
    )


class RegroupingConfig(Section):
    """Merging of identities with similar appearance that never share a frame; `reid.max_distance` is the limit."""

    max_gap_s: float = Field(600.0, gt=0, le=86400, description="Longest absence in seconds that is bridged.")
    num_embeddings: int = Field(16, ge=1, le=256, description="Embeddings of each identity that are compared.")


class InterpolationConfig(Section):
    """Filling of gaps and smoothing of boxes."""

    max_gap_s: float = Field(1.0, ge=0, le=600, description="Longest gap of an identity in seconds that is filled.")
    smoothing_s: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Standard deviation in seconds of the Gaussian weights that boxes are smoothed with; 0 for no "
        "smoothing, 0.1 is a good start.",
    )
