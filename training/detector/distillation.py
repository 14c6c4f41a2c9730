"""Knowledge distillation of a detector: a student learns the dense answers of a teacher besides the labels.

The teacher gets the same pictures, after augmentation, so that any picture can be learned from, labelled or not.
References: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Zheng et al., "Localization
Distillation for Dense Object Detection", CVPR 2022 (distributions of box edges).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from motserve.config import Config, change_config
from motserve.detection.yolo import load_yolo
from motserve.errors import InvalidConfig
from motserve.models.weights import resolve_weights
from training.detector.bfloat16 import single
from training.detector.config import TeacherConfig

_LEAST_SUM: Final = 1.0
"""Smallest divisor of the losses, for pictures in which the teacher sees nobody."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a YOLO head answers for each anchor, before non-maximum suppression.

    Attributes:
        scores: `(batch, classes, anchors)` logits.
        edges: `(batch, 4, bins, anchors)` logits of the distribution of each box edge.
        features: Inputs of the head, `(batch, channels, height, width)` for each stride.
    """

    scores: Tensor
    edges: Tensor
    features: Sequence[Tensor]

    @classmethod
    def of(cls, predictions: dict[str, Any], classes: Sequence[int] | None = None) -> Answers:
        """Return the answers in the raw predictions of Ultralytics.

        Args:
            predictions: The raw predictions.
            classes: Indices of the classes to take; None for all.
        """
        scores, boxes = predictions["scores"], predictions["boxes"]
        if classes is not None:
            scores = scores[:, list(classes)]
        return cls(scores, boxes.view(len(boxes), 4, -1, boxes.shape[-1]), predictions["feats"])


class Teacher:
    """A frozen YOLO detector that answers for each anchor.

    Args:
        config: Weights and classes.
        student: The student; it must have the same anchors and distributions, and the names of its classes.
        base: Configuration to find the weights with.
        short: Whether to compute in bfloat16 on a CPU.

    Raises:
        WeightsUnavailable: The weights are not available or not a detector.
        InvalidConfig: The teacher does not know a class of the student, or its head has another form.
    """

    def __init__(self, config: TeacherConfig, student: Any, base: Config, short: bool = False) -> None:
        changed = change_config(base, {"detector": {"weights": [config.weights]}})
        loaded = load_yolo(resolve_weights("detector", changed))
        device = next(student.parameters()).device
        self._network = loaded.model.float().fuse(verbose=False).eval().to(device)
        self._network.requires_grad_(False)
        self._short = short
        if short:
            self._network.to(memory_format=torch.channels_last)
        indices = {name: index for index, name in loaded.names.items()}
        unknown = [name for name in student.names.values() if name not in indices]
        if unknown:
            raise InvalidConfig(f"teacher {config.weights} does not know the class {unknown[0]!r} of the training data")
        self._classes = [indices[name] for name in student.names.values()]
        heads = student.model[-1], self._network.model[-1]
        if heads[0].reg_max != heads[1].reg_max or not torch.equal(heads[0].stride, heads[1].stride.to(device)):
            raise InvalidConfig(f"teacher {config.weights} has a head of another form than the student")

    @torch.no_grad()
    def answer(self, images: Tensor) -> Answers:
        """Return the answers for `(batch, 3, height, width)` pictures in [0, 1]."""
        if not self._short:
            return Answers.of(self._network(images)[1], self._classes)
        with torch.autocast("cpu", torch.bfloat16):
            raw = self._network(images.contiguous(memory_format=torch.channels_last))[1]
        return Answers.of(single(raw), self._classes)


class DoubtfulBackground:
    """Cross entropy of scores that ignores anchors without a label where the teacher is confident.

    Labels of footage miss people, and uncertain people have none.

    Attributes:
        confidence: `(batch, anchors, classes)`, the teacher's confidence for the current pictures.
    """

    confidence: Tensor

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each anchor, `(batch, anchors, classes)`."""
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return torch.where(targets > 0, loss, loss * (1 - self.confidence))


class TaughtLoss:
    """Ultralytics' loss on the labels plus the difference of the student to the teacher.

    Args:
        labelled: Ultralytics' loss.
        teacher: The teacher.
        config: Weights of the parts.
    """

    def __init__(self, labelled: Any, teacher: Teacher, config: TeacherConfig) -> None:
        self._labelled, self._teacher, self._config = labelled, teacher, config
        self._doubtful = DoubtfulBackground()
        labelled.bce = self._doubtful

    def __call__(self, predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the parts of the loss, multiplied by the size of the batch, and their values by name."""
        raw = self._labelled.parse_output(predictions)
        taught = self._teacher.answer(batch["img"])
        self._doubtful.confidence = taught.scores.sigmoid().transpose(1, 2)
        loss, named = self._labelled(predictions, batch)
        parts = difference(Answers.of(raw), taught, self._config)
        of_teacher = torch.stack(list(parts.values())) * len(raw["boxes"])
        total = torch.cat([loss * self._config.labels, of_teacher])
        return total, {**named, **{name: part.detach() for name, part in parts.items()}}


def difference(student: Answers, teacher: Answers, config: TeacherConfig) -> dict[str, Tensor]:
    """Return the weighted differences of a student's answers to those of its teacher.

    Scores are compared by their cross entropy at every anchor. Box edges are compared by the Kullback-Leibler
    divergence of their distributions, weighted by the teacher's confidence. Both are divided by the sum of the
    teacher's confidences, as Ultralytics divides by the sum of its targets. Features are compared by their squared
    distance, relative to the size of the teacher's.

    Args:
        student: The student's answers.
        teacher: The teacher's; features of another number of channels are not compared.
        config: Weight of each part.

    Returns:
        `taught_scores`, `taught_boxes` and `taught_features`, each a number that is 0 for equal answers.
    """
    confidence = teacher.scores.sigmoid()
    total = confidence.sum().clamp(min=_LEAST_SUM)
    cross = functional.binary_cross_entropy_with_logits(student.scores, confidence, reduction="sum")
    own = functional.binary_cross_entropy_with_logits(teacher.scores, confidence, reduction="sum")
    divergence = functional.kl_div(
        student.edges.log_softmax(dim=2), teacher.edges.log_softmax(dim=2), reduction="none", log_target=True
    ).sum(dim=2).mean(dim=1)  # fmt: skip
    weight = confidence.amax(dim=1)
    distances = [
        (one - other).square().mean() / other.square().mean().clamp(min=torch.finfo(other.dtype).tiny)
        for one, other in zip(student.features, teacher.features, strict=True)
        if one.shape == other.shape
    ]
    return {
        "taught_scores": config.scores * (cross - own) / total,
        "taught_boxes": config.boxes * (divergence * weight).sum() / total,
        "taught_features": config.features * (sum(distances, torch.zeros_like(total)) / max(len(distances), 1)),
    }
