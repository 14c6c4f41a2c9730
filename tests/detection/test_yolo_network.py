from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from motserve.detection.yolo import load_yolo
from motserve.detection.yolo_network import build_network
from motserve.errors import InvalidData, WeightsUnavailable
from motserve.models.weights import Weights

TINY: dict[str, Any] = {
    "nc": 2,
    "activation": "torch.nn.LeakyReLU(0.1)",
    "short_head": True,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[-1, 1, "nn.MaxPool2d", [2]], [[-2, -1], 1, "Detect", ["nc"]]],
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**TINY, **changes}


def test_a_short_head_has_two_convolutions_and_the_activation_of_the_network() -> None:
    from ultralytics.nn.modules import Conv

    before = Conv.default_act
    network = build_network(TINY, 3)
    assert Conv.default_act is before
    head = network.model[-1]
    assert head.nc == 3
    for branch, outputs in ((head.cv2, 64), (head.cv3, 3)):
        for convolutions in branch:
            assert [one.weight.shape[:2] for one in (convolutions[0].conv, convolutions[1])] == [
                (16, 16),
                (outputs, 16),
            ]
            assert isinstance(convolutions[0].act, torch.nn.LeakyReLU)
    assert network.eval()(torch.zeros(1, 3, 64, 64))[0].shape == (1, 4 + 3, 64 + 16)
    assert TINY["head"][-1][-1] == ["nc"], "the description is not changed"


def test_other_networks_are_built_by_their_name() -> None:
    assert build_network("yolov8n.yaml", 1).model[-1].nc == 1


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (changed(activation="__import__('os').system('touch owned')"), "activation .* is not one of torch.nn"),
        (changed(activation=3), "activation 3"),
        (changed(backbone=[[-1, 1, "torch_safe_load", ["x.pt"]]]), "'torch_safe_load' of a network is not a layer"),
        (changed(backbone=[[-1, 1, "nn.Module.__class__", []]]), "is not a layer"),
        (changed(backbone=[[-1, 1, "nn.Nothing", []]]), "'nn.Nothing' of a network is not a layer"),
        (changed(backbone=[[-1, 1, "Path", ["/"]]]), "'Path'"),
        (changed(backbone=[[-1, 1, ["Conv"], []]]), "is not a layer"),
    ],
)
def test_descriptions_that_are_code_are_refused(
    description: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidData, match=said):
        build_network(description, 1)
    metadata = {"architecture": "yolov8n", "network": json.dumps(description), "names": '{"0": "person"}'}
    save_file({"model.0.conv.weight": torch.zeros(1)}, tmp_path / "hostile.safetensors", metadata)
    with pytest.raises(WeightsUnavailable, match=said):
        load_yolo(Weights("hostile", tmp_path / "hostile.safetensors", "", ""))
    assert not (tmp_path / "owned").exists()
