"""The settings of the training of an embedder; the defaults are the strong baseline (Luo et al., CVPRW 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from motserve.config.base import Section, Share
from motserve.config.paths import LocalPath, NameOrPath
from motserve.lab.evaluation.reid_data import Protocol
from motserve.reid.backbones import BACKBONES
from training.color_jitter import USUAL, LightConfig
from training.job_config import JobConfig

Epoch = Annotated[int, Field(ge=1, le=100_000)]


class ReidDataConfig(Section):
    """What is learned from, and who is kept apart to choose the model by."""

    root: LocalPath = Field(
        description="Folder of the data set, as downloaded or as `motserve datasets prepare` wrote it; then its lists "
        "say who is kept apart."
    )
    layout: Literal["market1501", "dukemtmc", "msmt17", "pku"] = Field(
        "market1501",
        description="Its layout, which is its test as well. `pku`: crops named as in Market-1501 in `query/` and "
        "`bounding_box_test/`, of which the people of `train_ids.txt` are learned from and those of `val_ids.txt` "
        "are the test, found across cameras.",
    )
    validation_share: float = Field(
        0.1, ge=0, lt=1, description="Share of the training people kept apart to choose the model by; 0 keeps the last."
    )
    validation_seed: int = Field(0, ge=0, le=2**31, description="Another number keeps others apart.")
    validation_ids: LocalPath | None = Field(
        None, description="File with the IDs of those who are kept apart, one a line, in place of a share."
    )


class CrossConfig(Section):
    """Another data set, on which the result is measured without having seen any of it."""

    root: LocalPath = Field(description="Its folder.")
    protocol: Protocol = Field("market1501", description="Its layout, and what is compared with what.")
    people: LocalPath | None = Field(None, description="File with the IDs that count, one a line; null for all.")


class NetworkConfig(Section):
    """The embedder and what it starts from."""

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
    models_dir: LocalPath = Field(Path("models"), description="Folder looked through first for weights by name.")
    norm_momentum: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Momentum of the trunk's batch norms; null leaves it. That of MobileNet in torchvision, 0.01, is "
        "for trainings a hundred times longer.",
    )
    sync_batch_norm: bool = Field(
        False, description="Batch norms see the batch of all workers and not each its own; needs GPUs."
    )

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}; known are {', '.join(BACKBONES)}")
        return name


class CropConfig(Section):
    """What a crop goes through before the network sees it."""

    height: int = Field(256, ge=32, le=1024, description="Height in pixels; for vit_b_16 a multiple of 16.")
    width: int = Field(128, ge=16, le=1024, description="Width in pixels; for vit_b_16 a multiple of 16.")
    flip: float = Field(0.5, ge=0, le=1, description="Share that is mirrored.")
    pad: int = Field(
        10, ge=0, le=256, description="Pixels of black around a crop, out of which its size is cut again at random."
    )
    jitter: float = Field(
        0.0, ge=0, le=1, description="Largest relative change of brightness, contrast and saturation; 0 for none."
    )
    relit: Share = Field(0.0, description="Share that is seen in another light, by another camera; 0 for none.")
    light: LightConfig = Field(USUAL, description="How far light and cameras differ.")
    erasing: float = Field(
        0.5, ge=0, le=1, description="Share of which a rectangle is overpainted with the mean of ImageNet."
    )
    erased_area: tuple[float, float] = Field((0.02, 0.4), description="Its least and largest share of the crop.")
    erased_ratio: tuple[float, float] = Field((0.3, 3.33), description="Its least and largest height over width.")

    @model_validator(mode="after")
    def _ordered(self) -> CropConfig:
        for name, (low, high) in (("erased_area", self.erased_area), ("erased_ratio", self.erased_ratio)):
            if not 0 < low <= high or (name == "erased_area" and high > 1):
                raise ValueError(f"{name} [{low}, {high}]: needs the least first, above 0, and areas of at most 1")
        return self


class BatchConfig(Section):
    """The batch of all workers together: P people with K crops each."""

    identities: int = Field(16, ge=2, le=65536, description="P; every worker has an equal share of them.")
    views: int = Field(4, ge=2, le=1024, description="K.")


class LossConfig(Section):
    """What is minimised: cross-entropy, triplet loss and, if wanted, others."""

    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing of the cross-entropy.")
    margin: float = Field(0.3, ge=0, le=100, description="Margin of the batch-hard triplet loss, Euclidean.")
    triplet_weight: float = Field(1.0, ge=0, le=1000, description="Weight of the triplet loss.")
    cosine_scale: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Scale of a classifier that compares directions alone (NormFace, Wang et al., 2017), which learns "
        "sooner from random weights; null for the linear one.",
    )
    contrastive_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Weight of the supervised contrastive loss (Khosla et al., 2020), on embeddings; 0 for none.",
    )
    temperature: float = Field(0.1, gt=0, le=10, description="Its temperature.")
    centre_weight: float = Field(
        0.0, ge=0, le=10, description="Weight of the centre loss; 0 for none. Luo et al. take 5e-4 where they use it."
    )
    threshold_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Weight of a loss that puts the hardest pairs on their side of a distance, so that services can "
        "decide by it: the other losses order distances, and leave open where the same person ends; 0 for none.",
    )
    threshold: float = Field(0.3, gt=0, le=2, description="That cosine distance: `reid.max_distance` of services.")
    threshold_gap: float = Field(0.1, ge=0, le=1, description="How far from it pairs are pushed, as cosine distance.")
    centre_learning_rate: float = Field(0.5, gt=0, le=10, description="Learning rate of the centres, plain SGD.")


class ScheduleConfig(Section):
    """How long and how fast it learns, with Adam."""

    epochs: Epoch = Field(120, description="Passes over the people.")
    learning_rate: float = Field(3.5e-4, gt=0, le=1, description="Learning rate after the warm-up.")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="Weight decay, part of the gradient.")
    warmup_epochs: int = Field(10, ge=0, le=100_000, description="Epochs in which the rate rises, linearly.")
    warmup_factor: float = Field(0.01, gt=0, le=1, description="Share of the learning rate in the first epoch.")
    decay: Literal["steps", "cosine"] = Field(
        "steps", description="`steps` multiplies the rate by `gamma` after each milestone; `cosine` ends near 0."
    )
    milestones: tuple[Epoch, ...] = Field((40, 70), description="Epochs after which the rate falls.")
    gamma: float = Field(0.1, gt=0, le=1, description="What it is multiplied by then.")
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of a gradient; null for any.")


class ValidationConfig(Section):
    """Finding those who were kept apart, every crop of them across cameras."""

    every: Epoch = Field(10, description="Epochs between two validations; the last epoch has one, too.")
    patience: int = Field(
        0, ge=0, le=100_000, description="Epochs without a better mAP after which training stops; 0 for never."
    )
    batch_size: int = Field(64, ge=1, le=4096, description="Crops in one pass of the network, here and in the test.")


class PictureConfig(Section):
    """The pictures of the result."""

    queries: int = Field(8, ge=1, le=100, description="Queries shown with what was found for them.")
    matches: int = Field(10, ge=1, le=50, description="Nearest crops shown of each.")
    ranks: int = Field(50, ge=1, le=1000, description="Ranks of the CMC curve.")
    bins: int = Field(100, ge=2, le=10_000, description="Bins of the histograms of distances.")


class ReidTrainingConfig(JobConfig):
    """Everything `python -m training.reid` needs."""

    data: ReidDataConfig = Field(description="Data.")
    cross: tuple[CrossConfig, ...] = Field((), description="Other data sets on which the result is measured.")
    network: NetworkConfig = Field(NetworkConfig(), description="Network.")
    crops: CropConfig = Field(CropConfig(), description="Crops.")
    batch: BatchConfig = Field(BatchConfig(), description="Batches.")
    losses: LossConfig = Field(LossConfig(), description="Losses.")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="Schedule.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Precision of the network while it learns; fp16, with scaled gradients, on GPUs only."
    )
    validation: ValidationConfig = Field(ValidationConfig(), description="Choice of the model.")
    pictures: PictureConfig = Field(PictureConfig(), description="Pictures.")

    @model_validator(mode="after")
    def _consistent(self) -> ReidTrainingConfig:
        workers = max(self.compute.workers, 1)
        if self.batch.identities % workers or self.batch.identities < 2 * workers:
            raise ValueError(
                f"batch.identities {self.batch.identities} must be a multiple of compute.workers {workers}, at least "
                "two for each: the hardest negative is looked for among a worker's own crops"
            )
        on_gpus = self.compute.gpus_per_worker > 0
        if self.precision == "fp16" and not on_gpus:
            raise ValueError("precision fp16 needs compute.gpus_per_worker above 0; take bf16 or fp32 on CPUs")
        if self.network.sync_batch_norm and not on_gpus:
            raise ValueError(
                "network.sync_batch_norm needs compute.gpus_per_worker above 0: torch has it for CUDA only"
            )
        return self
