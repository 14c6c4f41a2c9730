"""The settings of the training of the bundled weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from motserve.config.files import read_settings
from motserve.config.sections import Section

Epochs = Annotated[int, Field(ge=1, le=1000)]


class PictureConfig(Section):
    """Single rendered pictures, every one as different as the renderer allows."""

    longer_side: int = Field(320, ge=128, le=4096, description="Longer side of a picture in pixels.")
    per_place: int = Field(4, ge=1, le=100, description="Pictures taken at one place before the next is painted.")
    most_people: int = Field(14, ge=1, le=200, description="Most people placed in one picture.")
    empty: float = Field(0.08, ge=0, le=1, description="Share of pictures without anybody.")
    clutter: float = Field(0.25, ge=0, le=1, description="Share of places that are random shapes instead of a scene.")
    least_height: float = Field(0.05, gt=0, le=1, description="Least body height as a fraction of the picture's.")
    most_height: float = Field(1.1, gt=0, le=2, description="Largest body height as a fraction of the picture's.")
    blurred: float = Field(0.3, ge=0, le=1, description="Share of pictures that are out of focus or smeared.")
    colourless: float = Field(0.04, ge=0, le=1, description="Share of pictures in black and white.")


class RenderedPictures(Section):
    """A data set of rendered pictures with labels."""

    pictures: PictureConfig = Field(PictureConfig(), description="What the pictures show.")
    train_pictures: int = Field(2000, ge=1, le=1_000_000, description="Pictures to learn from.")
    validation_pictures: int = Field(200, ge=1, le=100_000, description="Pictures of other seeds to measure on.")
    least_visibility: float = Field(
        0.2, ge=0, le=1, description="People of whom less than this share can be seen are not labelled."
    )


class RenderedConfig(RenderedPictures):
    """Everything `python -m training.rendered` needs."""

    seed: int = Field(0, ge=0, description="Everything random follows from this number.")


class DetectorTraining(RenderedPictures):
    """YOLOv8n from random weights."""

    image_size: int = Field(320, ge=64, le=4096, multiple_of=32, description="Input size while training, in pixels.")
    cycles: tuple[Epochs, ...] = Field(
        (8, 10),
        min_length=1,
        description="Passes over the pictures in each cycle of the learning rate; a cycle goes on from the weights of "
        "the one before (Loshchilov and Hutter, ICLR 2017).",
    )
    batch_size: int = Field(8, ge=1, le=1024, description="Pictures per step.")
    learning_rate: float = Field(0.001, gt=0, le=1, description="Peak learning rate of AdamW.")
    threads: int = Field(2, ge=1, le=256, description="Threads of torch; sums differ in the last bits between counts.")
    warmup_epochs: float = Field(1.0, ge=0, le=100, description="Epochs of a cycle over which the rate rises.")
    mosaic_free_epochs: int = Field(3, ge=0, le=1000, description="Last epochs of a cycle, without mosaics.")


class EmbedderTraining(Section):
    """MobileNetV3-small from random weights, with the losses of the strong baseline (Luo et al., CVPRW 2019)."""

    pictures: PictureConfig = Field(
        PictureConfig(
            per_place=4, most_people=6, empty=0.0, clutter=0.2, least_height=0.14, most_height=1.0, colourless=0.0
        ),
        description="What the pictures show that the crops come from; `most_people` of them appear together.",
    )
    backbone: str = Field("mobilenet_v3_small", description="Trunk; see `motserve.reid.backbones`.")
    dimension: int = Field(512, ge=8, le=4096, description="Length of an embedding.")
    crop_height: int = Field(256, ge=32, le=1024, description="Height of a crop in pixels.")
    crop_width: int = Field(128, ge=16, le=1024, description="Width of a crop in pixels.")
    train_identities: int = Field(400, ge=2, le=1_000_000, description="Rendered people to learn from.")
    validation_identities: int = Field(80, ge=2, le=100_000, description="Other rendered people to measure on.")
    views: int = Field(20, ge=4, le=1000, description="Crops of each person.")
    least_visibility: float = Field(0.45, ge=0, le=1, description="Crops that show less of a person are not used.")
    jitter: float = Field(
        0.06, ge=0, le=0.5, description="Standard deviation of a crop's edges, as a fraction of the box."
    )
    identities_per_batch: int = Field(12, ge=2, le=256, description="P of the PK sampler.")
    views_per_identity: int = Field(4, ge=2, le=64, description="K of the PK sampler.")
    threads: int = Field(2, ge=1, le=256, description="Threads of torch; sums differ in the last bits between counts.")
    half_size_steps: int = Field(
        2000,
        ge=0,
        le=1_000_000,
        description="First steps, on crops of half the height and width: a quarter of the time.",
    )
    steps: int = Field(500, ge=1, le=1_000_000, description="Steps after those, on whole crops.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(100, ge=0, le=100_000, description="Steps over which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Weight decay.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing of the cross-entropy.")
    logit_scale: float = Field(
        20.0, gt=0, le=1000, description="Factor on the cosines between embeddings and classes (NormFace)."
    )
    ramp_steps: int = Field(
        400,
        ge=0,
        le=1_000_000,
        description="Steps over which the losses on hardest pairs come in, which start unstable.",
    )
    margin: float = Field(0.3, ge=0, le=10, description="Margin of the batch-hard triplet loss.")
    threshold_weight: float = Field(
        1.0, ge=0, le=100, description="Weight of the loss that puts the hardest pairs on their side of `distance`."
    )
    threshold_gap: float = Field(
        0.1, ge=0, le=1, description="How far from `distance` that loss pushes pairs, as cosine distance."
    )
    erasing: float = Field(0.4, ge=0, le=1, description="Share of crops with a rectangle erased.")
    distance: float = Field(0.3, gt=0, le=2, description="Cosine distance below which two crops count as one person.")


class BundledConfig(Section):
    """Everything `python -m training.bundled` needs."""

    seed: int = Field(2024, ge=0, description="Everything random follows from this number.")
    detector: DetectorTraining = Field(DetectorTraining(), description="Detector.")
    embedder: EmbedderTraining = Field(EmbedderTraining(), description="Embedder.")


def load_bundled_config(path: Path) -> BundledConfig:
    """Read the settings from YAML.

    Raises:
        InvalidConfig: The file cannot be read, a key is unknown or a value out of its bounds.
    """
    return read_settings(path, BundledConfig)
