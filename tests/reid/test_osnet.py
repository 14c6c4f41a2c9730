from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from motserve.config import ReIDConfig
from motserve.errors import WeightsUnavailable
from motserve.models.weights import Weights
from motserve.reid import build_embedder
from motserve.reid.backbones.osnet import WIDTHS, OSNet, is_osnet, load_osnet

# What the paper gives for each width without the classifier, in millions.
MILLIONS = {"osnet_x1_0": 2.2, "osnet_x0_75": 1.3, "osnet_x0_5": 0.6, "osnet_x0_25": 0.2}


@pytest.mark.parametrize("name", WIDTHS)
def test_sizes_are_those_of_the_paper(name: str) -> None:
    network = OSNet(name).eval()
    assert round(sum(value.numel() for value in network.parameters()) / 1e6, 1) == MILLIONS[name]
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 256, 128)).shape == (2, 512)


def test_an_unknown_width_is_named() -> None:
    with pytest.raises(ValueError, match="unknown OSNet 'osnet_x2_0'; known are osnet_x1_0"):
        OSNet("osnet_x2_0")


def written(folder: Path, state: object) -> Weights:
    path = folder / "osnet.pth"
    torch.save(state, path)
    return Weights("osnet.pth", path, "0", "")


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_of_torchreid_are_an_embedder(tmp_path: Path, wrapped: bool) -> None:
    torch.manual_seed(0)
    network = OSNet("osnet_x0_25")
    state = {**network.state_dict(), "classifier.weight": torch.zeros(7, 512), "classifier.bias": torch.zeros(7)}
    checkpoint = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    embedder = build_embedder(ReIDConfig(device="cpu"), written(tmp_path, checkpoint if wrapped else state))
    assert embedder.dimension == 512
    crops = np.random.default_rng(0).integers(0, 256, (3, 256, 128, 3), np.uint8)
    embeddings = embedder.embed(crops)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    pixels = torch.from_numpy(crops[:, :, :, ::-1].copy()).permute(0, 3, 1, 2) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        direct = network.eval()((pixels - mean[:, None, None]) / deviation[:, None, None])
    np.testing.assert_allclose(embeddings, nn.functional.normalize(direct).numpy(), atol=1e-5)


@pytest.mark.parametrize("damage", ["missing", "width", "other"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    state = OSNet("osnet_x0_25").state_dict()
    if damage == "missing":
        del state["conv5.conv.weight"]
    elif damage == "width":
        state["conv1.conv.weight"] = torch.zeros(17, 3, 7, 7)
    else:
        state = {"a.weight": torch.zeros(1)}
    said = {
        "missing": r"conv5\.conv\.weight",
        "width": "17 channels",
        "other": "neither an OSNet nor an ImageNet class",
    }
    with pytest.raises(WeightsUnavailable, match=said[damage]):
        build_embedder(ReIDConfig(device="cpu"), written(tmp_path, state))


def test_the_published_network_gives_the_published_embeddings(data_dir: Path) -> None:
    """The exported graph holds each convolution with its batch norm folded in; put back, both must agree."""
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper
    from onnxruntime import InferenceSession

    path = data_dir / "models" / "reid" / "osnet_x0_25_msmt17.onnx"
    graph = onnx.load(path).graph
    tensors = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    exported = [[tensors[name] for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    network = _unfolded(OSNet("osnet_x0_25").eval(), exported)
    (gemm,) = (node for node in graph.node if node.op_type == "Gemm")
    network.fc[0].weight.data, network.fc[0].bias.data = (tensors[name] for name in gemm.input[1:])
    (norm,) = (node for node in graph.node if node.op_type == "BatchNormalization")
    names = [f"fc.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    network.load_state_dict(
        {name: tensors[there] for name, there in zip(names, norm.input[1:], strict=True)}, strict=False
    )
    assert is_osnet(network.state_dict())
    restored = load_osnet(network.state_dict()).eval()
    pictures = np.random.default_rng(0).normal(0, 1, (4, 3, 256, 128)).astype(np.float32)
    (expected,) = InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": pictures})
    with torch.inference_mode():
        found = restored(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def _unfolded(network: OSNet, exported: list[list[torch.Tensor]]) -> OSNet:
    """Give every convolution, in the order in which they run, what the graph has; batch norms become additions."""
    order: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 3, 256, 128))
    for hook in hooks:
        hook.remove()
    norms: dict[Any, Any] = {
        getattr(module, "conv", None) or module.conv2: module.bn
        for module in network.modules()
        if hasattr(module, "bn")
    }
    for norm in norms.values():
        norm.running_var.fill_(1 - norm.eps)
    assert len(order) == len(exported)
    for convolution, (weight, *bias) in zip(order, exported, strict=True):
        assert convolution.weight.shape == weight.shape
        convolution.weight.data = weight
        if bias:
            norms.get(convolution, convolution).bias.data = bias[0]
    return network
