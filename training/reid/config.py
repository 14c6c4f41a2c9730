"""The settings of the training of an embedder; the defaults are the strong baseline (Luo et al., CVPRW 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from motserve.config.base import Section, Share
from motserve.config.paths import LocalPath, NameOrPath
from motserve.lab.evaluation.reid_data import Protocol
from motserve.reid.backbones import BACKBONES
from training.color_jitter import DEFAULT_JITTER, ColorJitterConfig
from training.job_config import JobConfig

Epoch = Annotated[int, Field(ge=1, le=100_000)]


class ReidDataConfig(Section):
    """Training data, and the held-out people by which the best epoch is chosen."""

    root: LocalPath = Field(
        description="Folder of the data set, as downloaded or as `motserve datasets prepare` wrote it; then its lists "
        "define the held-out people."
    )
    layout: Literal["market1501", "dukemtmc", "msmt17", "pku"] = Field(
        "market1501",
        description="Layout of the data set, which also defines its test. `pku`: crops named as in Market-1501 in "
        "`query/` and `bounding_box_test/`; `train_ids.txt` lists the training people and `val_ids.txt` those of the "
        "cross-camera test.",
    )
    validation_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Held-out share of the training people, by which the best epoch is chosen; 0 uses the last epoch.",
    )
    validation_seed: int = Field(0, ge=0, le=2**31, description="Seed that selects the held-out people.")
    validation_ids: LocalPath | None = Field(
        None, description="File with the IDs of the held-out people, one per line, instead of a share."
    )


class CrossConfig(Section):
    """Another data set for cross-domain evaluation, which is not trained on."""

    root: LocalPath = Field(description="Folder of the data set.")
    protocol: Protocol = Field("market1501", description="Layout of the data set and its query/gallery protocol.")
    people: LocalPath | None = Field(
        None, description="File with the IDs of the only people to score, one per line; null for all."
    )


class NetworkConfig(Section):
    """The embedder and its initial weights."""

    backbone: str = Field("resnet50", description="Trunk; see `motserve.reid.backbones`.")
    dimension: int = Field(
        512, ge=2, le=8192, description="Length of an embedding: a linear layer maps the trunk's channels to it."
    )
    init: NameOrPath = Field(
        "imagenet",
        min_length=1,
        description="`scratch`; `imagenet` for the trunk that torchvision trained; a trained embedder of the same "
        "backbone and dimension: `bundled`, a .safetensors file of motserve or `models:/NAME@ALIAS`; or a .pth file "
        "of torchvision or torchreid whose trunk is taken.",
    )
    models_dir: LocalPath = Field(Path("models"), description="Folder that is searched first for weights by name.")
    norm_momentum: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Momentum of the trunk's batch norms; null keeps the default. MobileNet's default in torchvision, "
        "0.01, suits trainings a hundred times longer.",
    )
    sync_batch_norm: bool = Field(False, description="Synchronise batch norms over all workers; needs GPUs.")

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}; known are {', '.join(BACKBONES)}")
        return name


class CropConfig(Section):
    """Size and augmentation of crops."""

    height: int = Field(256, ge=32, le=1024, description="Height in pixels; for vit_b_16 a multiple of 16.")
    width: int = Field(128, ge=16, le=1024, description="Width in pixels; for vit_b_16 a multiple of 16.")
    flip: float = Field(0.5, ge=0, le=1, description="Share of crops that are mirrored.")
    pad: int = Field(10, ge=0, le=256, description="Black padding in pixels before a random crop of the original size.")
    jitter: float = Field(
        0.0, ge=0, le=1, description="Largest relative change of brightness, contrast and saturation; 0 for none."
    )
    color_jitter: Share = Field(
        0.0, description="Share of crops with the jitter of `color_jitter_strength`; 0 for none."
    )
    color_jitter_strength: ColorJitterConfig = Field(DEFAULT_JITTER, description="Strength of the colour jitter.")
    erasing: float = Field(
        0.5, ge=0, le=1, description="Share of crops with a random rectangle erased to the mean of ImageNet."
    )
    erased_area: tuple[float, float] = Field(
        (0.02, 0.4), description="Smallest and largest share of the crop that is erased."
    )
    erased_ratio: tuple[float, float] = Field(
        (0.3, 3.33), description="Smallest and largest height over width of the erased rectangle."
    )

    @model_validator(mode="after")
    def _ordered(self) -> CropConfig:
        for name, (low, high) in (("erased_area", self.erased_area), ("erased_ratio", self.erased_ratio)):
            if not 0 < low <= high or (name == "erased_area" and high > 1):
                raise ValueError(
                    f"{name} [{low}, {high}]: the smaller value must be first and above 0, and areas at most 1"
                )
        return self


class BatchConfig(Section):
    """The batch of all workers together: P people with K crops each."""

    identities: int = Field(16, ge=2, le=65536, description="P, people per batch, divided equally among workers.")
    views: int = Field(4, ge=2, le=1024, description="K, crops per person in a batch.")


class LossConfig(Section):
    """Weights of the losses: cross-entropy, triplet loss and optional others."""

    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing of the cross-entropy.")
    margin: float = Field(0.3, ge=0, le=100, description="Margin of the batch-hard triplet loss, Euclidean.")
    triplet_weight: float = Field(1.0, ge=0, le=1000, description="Weight of the triplet loss.")
    cosine_scale: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Scale of a cosine classifier (NormFace, Wang et al., 2017), which converges faster from random "
        "weights; null for a linear classifier.",
    )
    contrastive_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Weight of the supervised contrastive loss (Khosla et al., 2020), on embeddings; 0 for none.",
    )
    temperature: float = Field(0.1, gt=0, le=10, description="Its temperature.")
    centre_weight: float = Field(
        0.0, ge=0, le=10, description="Weight of the centre loss; 0 for none. Luo et al. use 5e-4."
    )
    threshold_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Weight of a loss that pushes the hardest pairs to the right side of a fixed distance, so that a "
        "service can use this distance as its threshold; the other losses only order distances; 0 for none.",
    )
    threshold: float = Field(
        0.3,
        gt=0,
        le=2,
        description="Cosine distance of the threshold loss; it corresponds to `reid.max_distance` of a service.",
    )
    threshold_gap: float = Field(
        0.1, ge=0, le=1, description="Margin of the threshold loss on each side, as cosine distance."
    )
    centre_learning_rate: float = Field(0.5, gt=0, le=10, description="Learning rate of the centres, plain SGD.")


class ScheduleConfig(Section):
    """Length of the training and learning rate of Adam."""

    epochs: Epoch = Field(120, description="Epochs.")
    learning_rate: float = Field(3.5e-4, gt=0, le=1, description="Learning rate after the warm-up.")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="Weight decay, added to the gradient (L2).")
    warmup_epochs: int = Field(10, ge=0, le=100_000, description="Epochs of the linear warm-up.")
    warmup_factor: float = Field(0.01, gt=0, le=1, description="Share of the learning rate in the first epoch.")
    decay: Literal["steps", "cosine"] = Field(
        "steps", description="`steps` multiplies the rate by `gamma` after each milestone; `cosine` ends near 0."
    )
    milestones: tuple[Epoch, ...] = Field(
        (40, 70), description="Epochs after which the learning rate is multiplied by `gamma`."
    )
    gamma: float = Field(0.1, gt=0, le=1, description="Factor of the learning rate at a milestone.")
    clip_norm: float | None = Field(
        None, gt=0, description="Largest norm of the gradient; larger ones are clipped; null for no clipping."
    )


class ValidationConfig(Section):
    """Validation: cross-camera retrieval of the held-out people."""

    every: Epoch = Field(10, description="Epochs between two validations; the last epoch is always validated.")
    patience: int = Field(
        0, ge=0, le=100_000, description="Epochs without a better mAP after which training stops; 0 for never."
    )
    batch_size: int = Field(64, ge=1, le=4096, description="Batch size of validation and test.")


class PictureConfig(Section):
    """Figures of the result."""

    queries: int = Field(8, ge=1, le=100, description="Number of queries shown with their matches.")
    matches: int = Field(10, ge=1, le=50, description="Number of nearest crops shown per query.")
    ranks: int = Field(50, ge=1, le=1000, description="Ranks of the CMC curve.")
    bins: int = Field(100, ge=2, le=10_000, description="Bins of the distance histograms.")


class ReidTrainingConfig(JobConfig):
    """Settings of `python -m training.reid`."""

    data: ReidDataConfig = Field(description="Data.")
    cross: tuple[CrossConfig, ...] = Field((), description="Other data sets for cross-domain evaluation.")
    network: NetworkConfig = Field(NetworkConfig(), description="Network.")
    crops: CropConfig = Field(CropConfig(), description="Crops.")
    batch: BatchConfig = Field(BatchConfig(), description="Batches.")
    losses: LossConfig = Field(LossConfig(), description="Losses.")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="Schedule.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Precision of the network in training; fp16, with scaled gradients, on GPUs only."
    )
    validation: ValidationConfig = Field(ValidationConfig(), description="Validation.")
    pictures: PictureConfig = Field(PictureConfig(), description="Figures.")

    @model_validator(mode="after")
    def _consistent(self) -> ReidTrainingConfig:
        workers = max(self.compute.workers, 1)
        if self.batch.identities % workers or self.batch.identities < 2 * workers:
            raise ValueError(
                f"batch.identities {self.batch.identities} must be a multiple of compute.workers {workers}, at least "
                "two per worker: the hardest negative is mined among a worker's own crops"
            )
        on_gpus = self.compute.gpus_per_worker > 0
        if self.precision == "fp16" and not on_gpus:
            raise ValueError("precision fp16 needs compute.gpus_per_worker above 0; use bf16 or fp32 on CPUs")
        if self.network.sync_batch_norm and not on_gpus:
            raise ValueError(
                "network.sync_batch_norm needs compute.gpus_per_worker above 0: torch supports it on CUDA only"
            )
        return self
