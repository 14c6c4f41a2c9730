"""NanoDet-g in the form of Ultralytics answers what the published network answers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from nanodet_files import nanodet_weights, write_tfjs
from torch import Tensor
from torch.nn import functional

from motserve.config import DetectorConfig
from motserve.detection import build_detector
from motserve.errors import InvalidData, NotFound
from motserve.models.weights import Weights
from motserve.types import FloatArray
from training.nanodet.command import main, write_nanodet
from training.nanodet.network import calibrate, convert
from training.nanodet.tfjs import read_tfjs

MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


@pytest.fixture(scope="module")
def published() -> dict[str, FloatArray]:
    return nanodet_weights()


def reference(weights: dict[str, FloatArray], picture: np.ndarray) -> tuple[list[Tensor], list[Tensor]]:
    """Return scores and distributions at each scale, as the published graph computes them."""

    def conv(x: Tensor, name: str, bias: int, stride: int = 1) -> Tensor:
        kernel = torch.from_numpy(weights[f"PartitionedCall/{name}"]).permute(3, 2, 0, 1)
        return functional.conv2d(x, kernel, torch.from_numpy(weights[f"unknown_{bias}"]), stride, kernel.shape[2] // 2)

    def act(x: Tensor, index: int, stride: int = 1) -> Tensor:
        return functional.leaky_relu(conv(x, f"split_{index}" if index else "split", 2 * index, stride), 0.1)

    def resize(x: Tensor, factor: float) -> Tensor:
        return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    normal = (picture - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    x = torch.from_numpy(normal.astype(np.float32)).permute(2, 0, 1)[None]
    x, index, stages = functional.max_pool2d(act(x, 0, 2), 3, 2, 1), 1, []
    for pairs, stride in ((1, 1), (2, 2), (2, 2), (3, 2)):
        x = start = act(x, index, stride)
        for pair in range(pairs):
            first = act(x, index + 1 + 2 * pair)
            x = torch.cat([act(first, index + 2 + 2 * pair), first], dim=1)
        x = torch.cat([act(x, index + 1 + 2 * pairs), start], dim=1)
        stages.append(x)
        index += 2 + 2 * pairs
    a5 = conv(stages[3], "split_27", 54)
    a4 = conv(stages[2], "split_26", 52) + resize(a5, 2)
    a3 = conv(stages[1], "split_25", 50) + resize(a4, 2)
    b4 = a4 + resize(a3, 0.5)
    b5 = a5 + resize(b4, 0.5)
    scores, edges = [], []
    for scale, (level, features, last) in enumerate(((a3, 60, 62), (b4, 66, 68), (b5, 70, 72))):
        x = functional.leaky_relu(conv(level, f"split_{28 + 2 * scale}", features), 0.1)
        out = conv(x, f"split_{29 + 2 * scale}", last).flatten(2)
        scores.append(out[:, :80].sigmoid())
        edges.append(out[:, 80:].reshape(1, 4, 11, -1).softmax(dim=2))
    return scores, edges


def test_the_converted_network_answers_what_the_published_one_answers(published: dict[str, FloatArray]) -> None:
    # the mean colour, where the published network pads with zeros, so that borders are equal too
    picture = np.broadcast_to(np.array(MEAN, np.float32), (96, 128, 3)).copy()
    picture[20:-20, 20:-20] = np.random.default_rng(1).uniform(0, 255, (56, 88, 3))
    network = convert(published).eval()
    pad = network.model[0].conv.padding
    network.model[0].conv.padding = (0, 0)
    rgb = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    mean = torch.tensor(MEAN[::-1])[None, :, None, None] / 255
    padded = mean.expand(1, 3, 98, 130).clone()
    padded[..., 1:-1, 1:-1] = rgb
    assert pad == (1, 1)
    with torch.no_grad():
        _, raw = network(padded)
        scores, edges = reference(published, picture)
    torch.testing.assert_close(raw["scores"].sigmoid()[0, 0], torch.cat(scores, dim=2)[0, 0], atol=1e-4, rtol=1e-3)
    mine = raw["boxes"].reshape(1, 4, 16, -1).softmax(dim=2)
    torch.testing.assert_close(mine[:, :, :11], torch.cat(edges, dim=3), atol=1e-4, rtol=1e-3)
    assert mine[:, :, 11:].max() < 1e-4


def test_calibration_changes_statistics_and_no_answer(published: dict[str, FloatArray]) -> None:
    network = convert(published).eval()
    pictures = torch.rand(6, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network(pictures)[0].clone()
        calibrate(network, iter(pictures.split(2)))
        after = network(pictures)[0]
    torch.testing.assert_close(after, before, atol=2e-3, rtol=1e-3)
    norm = network.model[0].bn
    output = network.model[0].conv(pictures)
    torch.testing.assert_close(norm.running_mean, output.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(norm.running_var, output.var(dim=(0, 2, 3)), atol=1e-4, rtol=1e-2)
    network.train()
    with torch.no_grad():
        trained = network(pictures)
    torch.testing.assert_close(
        trained["scores"].mean(), network.eval()(pictures)[1]["scores"].mean(), atol=0.1, rtol=0.1
    )


def test_the_command_writes_weights_of_a_detector_of_people(published: dict[str, FloatArray], tmp_path: Path) -> None:
    model = write_tfjs(tmp_path, published)
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), noise)
    output = tmp_path / "detector.safetensors"
    arguments = ["--model", str(model), "--pictures", str(tmp_path / "pictures"), "--output", str(output)]
    assert main(arguments) == 0
    detector = build_detector(DetectorConfig(image_size=96, confidence=0.001), Weights("free", output, "", ""))
    assert dict(detector.class_names) == {0: "person"}
    (detections,) = detector.detect([np.full((60, 80, 3), 120, np.uint8)])
    assert detections.boxes.shape[1] == 4
    values = read_tfjs(model)
    assert values.keys() == published.keys()
    np.testing.assert_allclose(values["unknown_72"], published["unknown_72"], atol=1e-3)


def test_other_models_and_missing_files_are_named(published: dict[str, FloatArray], tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="not the weights of NanoDet-g"):
        convert({name: values for name, values in published.items() if name != "unknown_40"})
    with pytest.raises(InvalidData, match="not the weights of NanoDet-g"):
        convert({**published, "PartitionedCall/split_3": np.zeros((3, 3, 8, 8), np.float32)})
    with pytest.raises(NotFound, match="there are no pictures"):
        write_nanodet(tmp_path / "nanodet.json", [], tmp_path / "out.safetensors")
    with pytest.raises(NotFound, match=r"nanodet\.json does not exist"):
        read_tfjs(tmp_path / "nanodet.json")
    file = write_tfjs(tmp_path, published)
    (tmp_path / "nanodet.bin").write_bytes(b"short")
    with pytest.raises(InvalidData, match="not a graph model"):
        read_tfjs(file)
    file.write_text("[]")
    with pytest.raises(InvalidData, match="not a graph model"):
        read_tfjs(file)
    assert not list(tmp_path.glob("out*"))
