"""The settings of the training of AFLink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from motserve.config.base import Section
from motserve.config.loading.yaml_files import read_settings

Channels = Annotated[int, Field(ge=1, le=4096)]


class SimulatedDetectorConfig(Section):
    """A simulated detector of the people of a ground truth, with errors and misses."""

    jitter: float = Field(
        0.03, ge=0, le=1, description="Standard deviation of the error of a box edge, in body heights."
    )
    visibility_noise: float = Field(
        0.25, ge=0, le=10, description="Standard deviation of the noise added to the visibility of a person."
    )
    correlation: float = Field(0.85, ge=0, lt=1, description="Correlation of both errors between consecutive frames.")
    half_visibility: float = Field(
        0.25, gt=0, le=10, description="Visibility at which the confidence is half of `max_confidence`."
    )
    max_confidence: float = Field(1.1, gt=0, le=10, description="Upper limit of the confidence, before clipping to 1.")
    min_confidence: float = Field(0.1, ge=0, lt=1, description="Minimum confidence of a detection.")


class LinkerTraining(Section):
    """Pairs of tracklets that trackers did not link, and the network that classifies them."""

    seed: int = Field(2024, ge=0, le=2**31, description="Seed of all random numbers.")
    sequences: tuple[str, ...] = Field((), description="Training sequences; empty for all.")
    validation: tuple[str, ...] = Field((), description="Validation sequences, which are not trained on.")
    detector: SimulatedDetectorConfig = Field(SimulatedDetectorConfig(), description="The simulated detector.")
    runs: int = Field(
        40, ge=1, le=10_000, description="Runs over each training sequence, each with another random detector."
    )
    validation_runs: int = Field(10, ge=1, le=10_000, description="Runs over each validation sequence.")
    span_s: float = Field(
        2.0, gt=0, le=60, description="Length in seconds of the part of a tracklet that is the network's input."
    )
    points: int = Field(16, ge=2, le=256, description="Number of sampled points of this part.")
    channels: tuple[Channels, ...] = Field(
        (8, 16, 32, 32), min_length=1, description="Channels of the convolutions along time."
    )
    max_gap_s: float = Field(4.0, gt=0, le=60, description="Longest time between the tracklets of a pair in seconds.")
    max_distance: float = Field(
        3.0, gt=0, le=100, description="Largest distance between the tracklets of a pair, in body heights."
    )
    tempo: float = Field(
        0.25, ge=0, le=2, description="Standard deviation of the logarithm of the tempo, between pairs."
    )
    drift: float = Field(
        0.2, ge=0, le=10, description="Standard deviation of the camera's drift in body heights per second."
    )
    epochs: int = Field(15, ge=1, le=1000, description="Passes over the pairs.")
    batch_size: int = Field(256, ge=2, le=65536, description="Pairs per step.")
    learning_rate: float = Field(0.002, gt=0, le=1, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="Weight decay.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout rate of features.")
    threads: int = Field(2, ge=1, le=256, description="Threads of torch.")


def load_linker_config(path: Path) -> LinkerTraining:
    """Read the settings.

    Raises:
        InvalidConfig: The file cannot be read, a key is unknown or a value out of its bounds.
    """
    return read_settings(path, LinkerTraining)
