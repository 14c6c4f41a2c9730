"""The settings of the training of AFLink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from motserve.config.base import Section
from motserve.config.yaml_files import read_settings

Channels = Annotated[int, Field(ge=1, le=4096)]


class SightConfig(Section):
    """A made-up detector that sees the people of a ground truth, some of them badly."""

    jitter: float = Field(0.03, ge=0, le=1, description="Deviation of an edge, in heights.")
    whim: float = Field(0.25, ge=0, le=10, description="Deviation that is added to how much of a person is seen.")
    memory: float = Field(0.85, ge=0, lt=1, description="How much of both stays from a frame to the next.")
    half_seen: float = Field(0.25, gt=0, le=10, description="Visibility at which it is half as sure as it can be.")
    sureness: float = Field(1.1, gt=0, le=10, description="Confidence in somebody who is seen without end.")
    least: float = Field(0.1, ge=0, lt=1, description="Lowest confidence.")


class LinkerTraining(Section):
    """Pairs left over by trackers, and the network that tells them apart."""

    seed: int = Field(2024, ge=0, le=2**31, description="Seed of all randomness.")
    sequences: tuple[str, ...] = Field((), description="Sequences of the ground truth to learn from; none for all.")
    validation: tuple[str, ...] = Field((), description="Sequences to measure on, not learned from.")
    sight: SightConfig = Field(SightConfig(), description="The detector.")
    runs: int = Field(
        40, ge=1, le=10_000, description="How often each sequence is seen, by another detector each time."
    )
    validation_runs: int = Field(10, ge=1, le=10_000, description="How often each sequence of validation is seen.")
    span_s: float = Field(2.0, gt=0, le=60, description="Seconds of a piece that the network sees.")
    points: int = Field(16, ge=2, le=256, description="Points at which these are sampled.")
    channels: tuple[Channels, ...] = Field((8, 16, 32, 32), min_length=1, description="Channels along time.")
    max_gap_s: float = Field(4.0, gt=0, le=60, description="Longest time between the pieces of a pair in seconds.")
    max_distance: float = Field(3.0, gt=0, le=100, description="Farthest apart that they are, in heights.")
    tempo: float = Field(0.25, ge=0, le=2, description="Deviation of the logarithm of the tempo, between pairs.")
    drift: float = Field(0.2, ge=0, le=10, description="Deviation of a camera's drift in heights a second.")
    epochs: int = Field(15, ge=1, le=1000, description="Passes over the pairs.")
    batch_size: int = Field(256, ge=2, le=65536, description="Pairs per step.")
    learning_rate: float = Field(0.002, gt=0, le=1, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="Weight decay.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of features that a step leaves out.")
    threads: int = Field(2, ge=1, le=256, description="Threads of torch.")


def load_linker_config(path: Path) -> LinkerTraining:
    """Read the settings.

    Raises:
        InvalidConfig: The file cannot be read, a key is unknown or a value out of its bounds.
    """
    return read_settings(path, LinkerTraining)
