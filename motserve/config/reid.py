"""The section of the configuration that describes re-identification: embedder, linker, motion gate and gallery."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from motserve.config.base import Backend, Device, Names, Section


def _off(value: object) -> object:
    """Return `off` for false, because YAML reads a bare `off` as false."""
    return "off" if value is False else value


Policy = Annotated[Literal["off", "on_demand", "interval", "always"], BeforeValidator(_off)]


class GalleryConfig(Section):
    """Which embeddings of each identity are stored, and for how long."""

    size: int = Field(
        8,
        ge=1,
        le=256,
        description="Embeddings stored per identity; when it is full, the older of the two most similar ones is "
        "dropped. Raised, more poses are stored and comparing takes longer.",
    )
    contradiction: float = Field(
        0.6,
        ge=0,
        le=2,
        description="Cosine distance from all stored embeddings of an identity beyond which its track shows another "
        "person, because the tracker confused two; the stored embeddings are then dropped. Lowered, such errors are "
        "noticed sooner, and unusual crops are mistaken for one. `motserve calibrate reid` measures it.",
    )
    memory_s: float = Field(
        120.0,
        gt=0,
        le=86400,
        description="Seconds without a detection after which an identity is removed. Raised, longer absences are "
        "bridged.",
    )
    max_identities: int = Field(
        2000,
        ge=1,
        le=1_000_000,
        description="Largest number of absent identities in memory; the longest absent are removed first.",
    )


class TrustConfig(Section):
    """Which crops are reliable enough for re-identification."""

    min_height: float = Field(32.0, ge=1, le=1 << 20, description="Smallest height of a box in pixels.")
    min_confidence: float = Field(0.3, ge=0, le=1, description="Lowest confidence of the detection.")
    max_overlap: float = Field(0.3, ge=0, le=1, description="Largest share of a box that is covered by another box.")
    border: float = Field(
        0.005,
        ge=0,
        le=0.5,
        description="Distance to the border of the frame, as a share of its width or height, within which a box counts "
        "as cut off.",
    )


class DecisionConfig(Section):
    """How a new track gets its identity: its frames are buffered until the identity is decided."""

    wait_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="Longest time in seconds that frames are buffered for a decision; none are buffered where no "
        "absent identity is within the motion gate. Raised, more embeddings are compared and results come later; with "
        "0 the first frame decides.",
    )
    num_embeddings: int = Field(
        3,
        ge=1,
        le=64,
        description="Embeddings of a new track that are compared; their distances are averaged. Raised, decisions are "
        "more reliable and come later.",
    )
    interval_s: float = Field(0.2, ge=0, le=60, description="Shortest time in seconds between two of these embeddings.")
    margin: float = Field(
        0.05,
        ge=0,
        le=2,
        description="Least difference in cosine distance between the best identity and every other one, present or "
        "absent. Raised, fewer people are confused, and more returns get a new identity.",
    )


class MotionGateConfig(Section):
    """The motion gate: which returns motion allows, regardless of appearance."""

    max_speed: float = Field(
        2.0,
        gt=0,
        le=100,
        description="Fastest plausible return, in body heights per second between the last box and the new one. "
        "Raised, more distant returns are linked, right and wrong ones.",
    )
    slack: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Distance in body heights that a return may cover however short the absence is. Raised, more "
        "returns are linked, right and wrong ones.",
    )
    reentry: bool = Field(
        True,
        description="Whether a person who left through the border of the frame gets the previous identity on return. "
        "MOTChallenge ground truth mostly counts each visit as another person; set it to false for scores on it.",
    )
    exit_border: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Without `reentry`: distance to the border, as a share of the frame's width or height, within "
        "which a person who was last detected there has left. Raised, fewer returns are linked.",
    )


class ReIDConfig(Section):
    """Appearance: the embedder and the linker that gives a returning person the previous identity."""

    policy: Policy = Field(
        "on_demand",
        description="What is embedded: `on_demand` only crops whose embedding can change a decision, `interval` each "
        "person every `refresh_interval_s`, `always` every row of every frame, `off` nothing; then each track is an "
        "identity.",
    )
    weights: Names = Field(
        ("resnet50_reid.safetensors", "bundled"),
        min_length=1,
        description="Weights in order of preference: a path or the name of a file in `models_dir` (.safetensors of "
        "motserve on any of its backbones, .onnx, .pth of torchreid with an OSNet); torchvision's for ImageNet, "
        "`resnet50-imagenet`, `vit_b_16-imagenet`, `efficientnet_b4-imagenet`, `mobilenet_v3_large-imagenet` or "
        "`mobilenet_v3_small-imagenet` (not in the default list: without training on people, all people are within "
        "`max_distance` of each other); `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry; or `bundled` "
        "or `bundled-free` of the package. The first that is available is used.",
    )
    device: Device = Field(
        "auto", description="`auto` (CUDA if available, else CPU), `cpu`, `mps`, `cuda` or `cuda:N`."
    )
    backend: Backend = Field(
        "auto",
        description="What runs the network on the CPU: `torch`, `openvino`, or `auto`: OpenVINO if it gives the same "
        "embeddings, else PyTorch, and the log says why. A network is converted once, for some seconds, and stored in "
        "`cache_dir`. A GPU needs `torch` or `auto`, and .onnx embedders ignore it.",
    )
    half: bool = Field(True, description="Use half precision on CUDA devices; other devices use single precision.")
    onnx_input: Literal["imagenet", "bgr255"] = Field(
        "imagenet",
        description="Input of an .onnx embedder: `imagenet` is RGB / 255 normalised with ImageNet's mean and standard "
        "deviation, `bgr255` is BGR from 0 to 255. Other formats define their own input.",
    )
    feature: Literal["after_norm", "before_norm"] = Field(
        "after_norm",
        description="Embedding that is compared: the output of the network's last batch norm (`after_norm`) or its "
        "input (`before_norm`), on which the triplet loss works. For evaluation; only motserve's networks have "
        "`before_norm`.",
    )
    crop_height: int = Field(
        256, ge=32, le=1024, description="Height of a crop in pixels; for vit_b_16 a multiple of 16."
    )
    crop_width: int = Field(
        128, ge=16, le=1024, description="Width of a crop in pixels; for vit_b_16 a multiple of 16."
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=1024,
        description="Largest number of crops in one pass of the network. Raised, throughput and memory grow.",
    )
    max_distance: float = Field(
        0.3,
        ge=0,
        le=2,
        description="Largest cosine distance at which a track is linked: from each of its embeddings to the nearest "
        "one of an identity, averaged. Raised, more returns are linked, right and wrong ones. Each model has its own "
        "scale; `motserve calibrate reid` measures it.",
    )
    refresh_interval_s: float = Field(
        0.5,
        gt=0,
        le=600,
        description="Seconds between two embeddings of a track for the gallery. Lowered, the gallery follows changes "
        "of appearance sooner, at the cost of more embeddings.",
    )
    refresh_growth: float = Field(
        1.3,
        ge=1,
        le=10,
        description="With `on_demand`, factor by which this interval grows after each embedding: the appearance of a "
        "person in view changes little. 1 keeps it constant.",
    )
    refresh_max_s: float = Field(10.0, gt=0, le=3600, description="Longest interval in seconds.")
    trust: TrustConfig = Field(TrustConfig(), description="Which crops are reliable enough to be used.")
    decision: DecisionConfig = Field(DecisionConfig(), description="How a new track gets its identity.")
    gate: MotionGateConfig = Field(MotionGateConfig(), description="Plausible returns by distance and time.")
    gallery: GalleryConfig = Field(GalleryConfig(), description="Stored embeddings of the identities.")
