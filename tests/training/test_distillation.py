"""Knowledge distillation: equal answers cost nothing, a student comes nearer to its teacher, labels may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

import motserve.models.bundled
from motserve.config import Config
from motserve.errors import InvalidConfig
from training.detector.bfloat16 import ShortFloatModel
from training.detector.config import TeacherConfig
from training.detector.distillation import Answers, DoubtfulBackground, TaughtLoss, Teacher, difference

WEIGHTS = Path(motserve.models.bundled.__file__).parent / "detector.safetensors"
CONFIG = TeacherConfig(weights=str(WEIGHTS))
EMPTY = {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}


def student(names: dict[int, str] | None = None, architecture: str = "yolov8n.yaml") -> Any:
    torch.manual_seed(0)
    names = names or {0: "person"}
    network: Any = DetectionModel(architecture, nc=len(names), verbose=False)
    network.names, network.args = names, get_cfg()
    return network


def answers(confidence: float, edge: float, feature: float) -> Answers:
    """One picture, one class, two anchors; the second one never sees anybody."""
    scores = torch.tensor([[[confidence, 0.001]]]).logit()
    edges = torch.zeros(1, 4, 2, 2)
    edges[:, :, 0] = edge
    return Answers(scores, edges, [torch.full((1, 1, 1, 2), feature)])


def test_equal_answers_cost_nothing_and_each_part_has_its_own_price() -> None:
    teacher = answers(0.9, 1.0, 2.0)
    costs = {
        name: [round(float(part), 4) for part in difference(other, teacher, CONFIG).values()]
        for name, other in {
            "equal": answers(0.9, 1.0, 2.0),
            "scores": answers(0.5, 1.0, 2.0),
            "edges": answers(0.9, 0.0, 2.0),
            "features": answers(0.9, 1.0, 1.0),
        }.items()
    }
    assert costs["equal"] == [0, 0, 0]
    # 0.9 ln(0.9/0.5) + 0.1 ln(0.1/0.5), over at least one person
    assert costs["scores"] == [pytest.approx(0.5 * 0.3681, abs=1e-3), 0, 0]
    # KL of (0.731, 0.269) to (0.5, 0.5), times the teacher's confidence
    assert costs["edges"] == [0, pytest.approx(1.5 * 0.1110 * 0.9, abs=2e-3), 0]
    assert costs["features"] == [0, 0, pytest.approx(1.0 * 1 / 4)]


def test_features_of_another_width_are_not_compared() -> None:
    wide = answers(0.9, 1.0, 2.0)
    narrow = Answers(wide.scores, wide.edges, [torch.zeros(1, 3, 1, 2)])
    assert float(difference(narrow, wide, CONFIG)["taught_features"]) == 0


def test_background_counts_less_where_the_teacher_sees_a_person() -> None:
    loss = DoubtfulBackground()
    loss.confidence = torch.tensor([[[0.0], [0.9], [0.9]]])
    logits, targets = torch.zeros(1, 3, 1), torch.tensor([[[0.0], [0.0], [0.7]]])
    full = float(torch.log(torch.tensor(2.0)))
    torch.testing.assert_close(loss(logits, targets), torch.tensor([[[full], [0.1 * full], [full]]]))


@pytest.mark.parametrize("short", [False, True])
def test_a_student_comes_nearer_to_its_teacher(short: bool) -> None:
    network = student().train()
    if short:
        network.__class__ = ShortFloatModel
        network.to(memory_format=torch.channels_last)
    teacher = Teacher(CONFIG, network, Config(), short)
    criterion = TaughtLoss(network.init_criterion(), teacher, CONFIG)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    images = torch.rand(2, 3, 64, 64)
    costs = []
    for _ in range(6):
        loss, named = criterion(network(images), {"img": images, **EMPTY})
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        costs.append(float(named["taught_features"]))
    assert list(named) == ["box_loss", "cls_loss", "dfl_loss", "taught_scores", "taught_boxes", "taught_features"]
    assert costs[-1] < 0.9 * costs[0]
    assert all(parameter.grad is None for parameter in teacher._network.parameters())


def test_a_teacher_answers_nearly_the_same_in_bfloat16() -> None:
    images = torch.rand(1, 3, 64, 64)
    full, short = (Teacher(CONFIG, student(), Config(), short).answer(images) for short in (False, True))
    assert short.scores.dtype == torch.float32
    torch.testing.assert_close(short.scores.sigmoid(), full.scores.sigmoid(), atol=0.02, rtol=0)


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"does not know the class 'dog' of the training data"):
        Teacher(CONFIG, student({0: "person", 1: "dog"}), Config())
