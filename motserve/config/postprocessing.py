"""What is done to the tracks of a whole file once its end is known."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section
from motserve.config.paths import NameOrPath


class LinkingConfig(Section):
    """Joining of identities of which one begins where another ended, by motion (AFLink)."""

    weights: NameOrPath = Field("bundled", description="`bundled`, or a file that `training.linker` wrote.")
    max_gap_s: float = Field(2.0, gt=0, le=600, description="Longest time in seconds between two that are joined.")
    max_distance: float = Field(
        1.5, gt=0, le=100, description="Farthest that somebody may have come in it, in heights of a person."
    )
    least_score: float = Field(0.5, ge=0, lt=1, description="Least probability of a joint, as the network judges it.")


class RegroupingConfig(Section):
    """Joining of identities that look alike and were never there at once; what is near is said by `reid`."""

    max_gap_s: float = Field(600.0, gt=0, le=86400, description="Longest absence in seconds that is bridged.")
    num_embeddings: int = Field(16, ge=1, le=256, description="Embeddings of each identity that are compared.")


class InterpolationConfig(Section):
    """Filling of gaps, and smoothing."""

    max_gap_s: float = Field(1.0, ge=0, le=600, description="Longest gap of an identity in seconds that is filled.")
    smoothing_s: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Standard deviation in seconds of the weights that boxes are smoothed with; 0 for no smoothing.",
    )
