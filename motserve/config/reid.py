"""The section of the configuration that describes re-identification: embedder, linker, motion gate and gallery."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from motserve.config.base import Device, Names, Section


def _off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


Policy = Annotated[Literal["off", "on_demand", "interval", "always"], BeforeValidator(_off)]


class GalleryConfig(Section):
    """What is remembered of each identity, and for how long."""

    size: int = Field(
        8,
        ge=1,
        le=256,
        description="Embeddings kept of each identity; of the two that are most alike, the older makes room.",
    )
    contradiction: float = Field(
        0.6,
        ge=0,
        le=2,
        description="Cosine distance from all that is remembered of somebody beyond which their track shows somebody "
        "else, whom the tracker took for the same: memory begins anew. `motserve calibrate reid` finds it.",
    )
    memory_s: float = Field(
        120.0, gt=0, le=86400, description="Seconds after which an identity that was not seen again is forgotten."
    )
    max_identities: int = Field(
        2000, ge=1, le=1_000_000, description="Most absent identities remembered; the longest absent are forgotten."
    )


class TrustConfig(Section):
    """Which crops are good enough to tell who somebody is."""

    min_height: float = Field(32.0, ge=1, le=1 << 20, description="Least height of a box in pixels.")
    min_confidence: float = Field(0.3, ge=0, le=1, description="Least confidence of the detection.")
    max_overlap: float = Field(0.3, ge=0, le=1, description="Largest share of a box that another box covers.")
    border: float = Field(
        0.005,
        ge=0,
        le=0.5,
        description="A box that comes this near to the border of the picture, as a share of its width or height, is "
        "taken to be cut off by it.",
    )


class DecisionConfig(Section):
    """How a track that begins gets its identity: its frames are held back until it is known who it is."""

    wait_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="Longest time in seconds that frames are held back for a decision. Nobody waits where no one who "
        "is away could have come there. With 0 the first frame decides.",
    )
    num_embeddings: int = Field(3, ge=1, le=64, description="Embeddings of a track that are compared, averaged.")
    interval_s: float = Field(0.2, ge=0, le=60, description="Least time in seconds between two of them.")
    margin: float = Field(
        0.05,
        ge=0,
        le=2,
        description="By how much a returning person must be nearer to their identity than to everybody else, in the "
        "picture or away.",
    )


class MotionGateConfig(Section):
    """The motion gate: which returns are plausible whatever the appearance says."""

    max_speed: float = Field(
        2.0,
        gt=0,
        le=100,
        description="Fastest plausible return, in body heights per second between the boxes. Raised, more returns far "
        "away are linked, right and wrong ones.",
    )
    slack: float = Field(
        1.0, ge=0, le=100, description="Distance in body heights that a return may cover however short the absence."
    )
    reentry: bool = Field(
        True,
        description="Whether a person who left through the border of the picture gets the old identity on return. "
        "Ground truth of the MOTChallenge mostly counts each visit as another person; set it to false to be scored "
        "there.",
    )
    exit_border: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Without `reentry`: a person last seen this near to the border, as a share of the picture's width "
        "or height, has left.",
    )


class ReIDConfig(Section):
    """Appearance: the embedder and the linker that gives a returning person the old identity."""

    policy: Policy = Field(
        "on_demand",
        description="`on_demand` embeds only where an embedding can change an answer, `interval` everybody each "
        "`refresh_interval_s`, `always` every row of every frame, `off` none: then each track is an identity.",
    )
    weights: Names = Field(
        ("resnet50_reid.safetensors", "bundled"),
        min_length=1,
        description="Weights in order of preference: a path or the name of a file in `models_dir` (.safetensors of "
        "motserve on any of its backbones, .onnx, .pth of torchreid with an OSNet); torchvision's for ImageNet, "
        "`resnet50-imagenet`, `vit_b_16-imagenet`, `efficientnet_b4-imagenet`, `mobilenet_v3_large-imagenet` or "
        "`mobilenet_v3_small-imagenet` (not in the default list, because a head that never saw people puts everybody "
        "within `max_distance`); `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry; or `bundled`.",
    )
    device: Device = Field("auto", description="`auto` (CUDA where there is one, else CPU), `cpu`, `cuda` or `cuda:N`.")
    half: bool = Field(True, description="Half precision on CUDA devices; elsewhere single precision is used.")
    onnx_input: Literal["imagenet", "bgr255"] = Field(
        "imagenet",
        description="What an .onnx embedder expects: `imagenet` is RGB / 255 normalised with ImageNet's mean and "
        "deviation, `bgr255` is BGR from 0 to 255. Other formats know their own input.",
    )
    feature: Literal["after_norm", "before_norm"] = Field(
        "after_norm",
        description="What is compared: the output of the network's last batch norm, or what goes into it, on which the "
        "triplet loss works. For evaluation; other networks than motserve's have `after_norm` only.",
    )
    crop_height: int = Field(
        256, ge=32, le=1024, description="Height of a crop in pixels; for vit_b_16 a multiple of 16."
    )
    crop_width: int = Field(
        128, ge=16, le=1024, description="Width of a crop in pixels; for vit_b_16 a multiple of 16."
    )
    batch_size: int = Field(32, ge=1, le=1024, description="Most crops in one pass of the network.")
    max_distance: float = Field(
        0.3,
        ge=0,
        le=2,
        description="Largest cosine distance that links: of a track's embeddings to the nearest of an identity, "
        "averaged. Each model has a scale of its own; `motserve calibrate reid` finds it.",
    )
    refresh_interval_s: float = Field(
        0.5, gt=0, le=600, description="Seconds between two embeddings of a track that goes into the gallery."
    )
    refresh_growth: float = Field(
        1.3,
        ge=1,
        le=10,
        description="With `on_demand`, each interval is this many times the one before: who has been seen for long "
        "looks no different.",
    )
    refresh_max_s: float = Field(10.0, gt=0, le=3600, description="Longest of these intervals in seconds.")
    trust: TrustConfig = Field(TrustConfig(), description="Which crops are looked at.")
    decision: DecisionConfig = Field(DecisionConfig(), description="How a track that begins gets its identity.")
    gate: MotionGateConfig = Field(MotionGateConfig(), description="The motion gate.")
    gallery: GalleryConfig = Field(GalleryConfig(), description="Memory of identities.")
