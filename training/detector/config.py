"""The settings of the training of detectors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from motserve.config.base import Section, Share
from motserve.config.paths import LocalPath, NameOrPath
from training.job_config import JobConfig


class AugmentationConfig(Section):
    """Augmentation of pictures, as in Ultralytics."""

    hue: Share = Field(0.015, description="Largest change of hue, as a share of the circle.")
    saturation: Share = Field(0.7, description="Largest change of saturation, as a share.")
    brightness: Share = Field(0.4, description="Largest change of brightness, as a share.")
    translate: Share = Field(0.1, description="Largest shift, as a share of the picture.")
    scale: float = Field(0.5, ge=0, lt=1, description="Largest change of size, as a share.")
    flip: Share = Field(0.5, description="Share of pictures that are mirrored.")
    mosaic: Share = Field(1.0, description="Share of pictures that are mosaics of four.")
    mixup: Share = Field(0.0, description="Share of pictures that are blended with another.")
    mosaic_free_epochs: int = Field(10, ge=0, le=10_000, description="Last epochs, without mosaics.")


class TeacherConfig(Section):
    """A detector whose answers are learned besides the labels (knowledge distillation)."""

    weights: NameOrPath = Field(
        min_length=1,
        description="Weights of the teacher, as in `detector.weights`: a YOLO detector that knows the classes of the "
        "training data by name.",
    )
    labels: float = Field(1.0, ge=0, le=100, description="Weight of the loss on the labels; 0 ignores them.")
    scores: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Weight of the difference of the confidences at all anchors. Raised, the student copies the "
        "teacher's errors too.",
    )
    boxes: float = Field(
        1.5, ge=0, le=100, description="Weight of the difference of the box edges where the teacher is confident."
    )
    features: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Weight of the difference of the features before the head, where both have as many. Raised, "
        "a student of the teacher's architecture learns faster.",
    )


class DetectorTraining(JobConfig):
    """Training of a YOLO detector."""

    data: LocalPath = Field(
        description="`data.yaml` of a data set in the layout of YOLO, with the splits `train` and `val`."
    )
    test: str | None = Field(
        None,
        min_length=1,
        description="Split to score once, at the end; null scores `val`, by which the best epoch was chosen.",
    )
    architecture: str = Field(
        "yolov8s", pattern=r"^yolo[\w.-]*$", description="Network to train from scratch, by Ultralytics' name."
    )
    init: NameOrPath = Field(
        "yolov8s.pt",
        min_length=1,
        description="Weights to start from, as in `detector.weights`: a release of Ultralytics, a file, `bundled`, "
        "`models:/NAME@ALIAS`; they define the architecture. `scratch` starts from random weights.",
    )
    image_size: int = Field(640, ge=64, le=4096, multiple_of=32, description="Longer side of the network's input, px.")
    epochs: int = Field(30, ge=1, le=10_000, description="Passes over the pictures.")
    evaluate_every: int = Field(1, ge=1, le=10_000, description="Epochs between two evaluations on `val`.")
    plots: bool = Field(
        True,
        description="Draw curves, confusion matrix, and pictures with labels and predictions; false saves seconds per "
        "evaluation.",
    )
    patience: int = Field(
        0, ge=0, le=10_000, description="Epochs without improvement after which training stops; 0 for never."
    )
    batch_size: int = Field(16, ge=1, le=65536, description="Pictures per step, over all workers.")
    nominal_batch: int = Field(
        64, ge=1, le=65536, description="Gradients are accumulated over this many pictures per optimiser step."
    )
    optimizer: Literal["SGD", "Adam", "AdamW", "NAdam", "RAdam"] = Field("SGD", description="Optimiser.")
    learning_rate: float = Field(0.01, gt=0, le=1, description="Learning rate after the warm-up.")
    final_rate: float = Field(0.01, gt=0, le=1, description="Learning rate at the end, as a share of the first.")
    cosine: bool = Field(False, description="Cosine instead of linear decay of the learning rate.")
    momentum: float = Field(0.937, ge=0, lt=1, description="Momentum, or the first beta of Adam.")
    weight_decay: float = Field(0.0005, ge=0, le=1, description="Weight decay.")
    warmup_epochs: float = Field(3.0, ge=0, le=1000, description="Epochs of the warm-up.")
    warmup_bias_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Learning rate of biases at the start of the warm-up. 0.1 suits SGD from random weights; with Adam "
        "it destroys pretrained weights.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Precision of the network in training; weights stay in single precision. fp16 "
        "needs a GPU."
    )  # fmt: skip
    cache_pictures: bool = Field(False, description="Keep decoded pictures in memory.")
    augmentation: AugmentationConfig = Field(AugmentationConfig(), description="Augmentation.")
    teacher: TeacherConfig | None = Field(None, description="Teacher whose answers are learned; null for none.")

    @model_validator(mode="after")
    def _consistent(self) -> DetectorTraining:
        workers = max(self.compute.workers, 1)
        if self.batch_size % workers:
            raise ValueError(f"batch_size {self.batch_size} cannot be divided among {workers} workers")
        if self.precision == "fp16" and not self.compute.gpus_per_worker:
            raise ValueError("precision fp16 needs compute.gpus_per_worker; use bf16 or fp32 on CPUs")
        return self
