from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.downloads import IMAGENET
from motserve.models.weights import Weights
from motserve.reid import build_embedder
from motserve.reid.backbones import BACKBONES, identify_backbone, striped
from motserve.reid.backbones.osnet import WIDTHS, OSNet
from motserve.reid.network import EmbedderNetwork
from motserve.reid.torch_embedder import TorchEmbedder

OF_TORCHVISION = [name for name in BACKBONES if name not in WIDTHS and name not in striped.WIDTHS]
SIZE = (64, 32)


def config(**settings: object) -> ReIDConfig:
    return ReIDConfig.model_validate({"device": "cpu", "crop_height": SIZE[0], "crop_width": SIZE[1], **settings})


def weights(path: Path) -> Weights:
    return Weights(path.name, path, "", "")


def crops(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def transformer() -> Any:
    """Torchvision's ViT-B/16 without its classifier; it answers the class token."""
    torch.manual_seed(0)
    net: Any = torchvision.models.vit_b_16(weights=None).eval()
    net.heads = nn.Identity()
    return net


def trunk_of(source: nn.Module, name: str, height: int, width: int) -> Any:
    network = EmbedderNetwork(name, 8, (height, width)).eval()
    assert network.load_trunk(source.state_dict()) == ([], [])
    return network.trunk


@pytest.mark.parametrize("name", ["efficientnet_b4", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_trunks_give_the_features_of_torchvision(name: str) -> None:
    torch.manual_seed(0)
    source = torchvision.models.get_model(name, weights=None).eval()
    pictures = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        expected = source.avgpool(source.features(pictures)).flatten(1)
        found = trunk_of(source, name, *SIZE)(pictures).mean(dim=(2, 3))
    assert found.shape == (2, BACKBONES[name].channels)
    assert expected.std(dim=0).max() > 0
    torch.testing.assert_close(found, expected)


def test_the_transformer_gives_the_class_token_of_torchvision(transformer: Any) -> None:
    pictures = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = transformer(pictures)
        found = trunk_of(transformer, "vit_b_16", 224, 224)(pictures)
    assert expected.std(dim=0).max() > 0
    torch.testing.assert_close(found[:, :, 0, 0], expected, rtol=1e-4, atol=1e-5)


def test_positions_are_resampled_for_crops_of_another_shape(transformer: Any) -> None:
    tall = trunk_of(transformer, "vit_b_16", 256, 128)
    learned = transformer.encoder.pos_embedding.detach()
    assert tall.positions.shape == (1, 768, 16, 8)
    torch.testing.assert_close(tall.class_position.detach(), learned[:, :1])
    places = tall.positions.detach()
    for (row, column), place in {(0, 0): 0, (0, -1): 13, (-1, 0): 13 * 14, (-1, -1): 14 * 14 - 1}.items():
        torch.testing.assert_close(places[0, :, row, column], learned[0, 1 + place])
    with torch.inference_mode():
        assert tall(torch.randn(1, 3, 256, 128)).isfinite().all()


def test_a_saved_transformer_is_loaded_for_crops_of_another_shape() -> None:
    made, used = (EmbedderNetwork("vit_b_16", 8, size) for size in ((64, 32), (96, 32)))
    positions: list[Any] = [network.trunk.positions for network in (made, used)]
    with torch.no_grad():  # what is learned rises with the row alone
        positions[0].copy_(torch.arange(4.0)[:, None].expand(1, 768, 4, 2))
    used.load_state_dict(made.state_dict())
    rows = positions[1].detach()[0, 0]
    assert rows.shape == (6, 2)
    torch.testing.assert_close(rows[:, 0], rows[:, 1])
    assert (rows[1:] > rows[:-1]).all()
    torch.testing.assert_close(rows[[0, -1], 0], torch.tensor([0.0, 3.0]))
    assert made.trunk.positions.shape == (1, 768, 4, 2)


def test_crops_that_patches_do_not_divide_are_refused(tmp_path: Path) -> None:
    torch.save({"encoder.ln.weight": torch.zeros(768)}, tmp_path / "vit_b_16_imagenet.pth")
    with pytest.raises(InvalidConfig, match=r"reid\.crop_height 250 .*vit_b_16 .*multiples of 16"):
        build_embedder(config(crop_height=250), weights(tmp_path / "vit_b_16_imagenet.pth"))


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_the_backbone_of_published_weights_is_identified(name: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
    assert identify_backbone(state) == name


@pytest.mark.parametrize("name", WIDTHS)
def test_the_backbone_of_torchreid_weights_is_identified(name: str) -> None:
    with torch.device("meta"):
        assert identify_backbone(OSNet(name).state_dict()) == name


def test_the_backbone_of_other_weights_is_not_identified() -> None:
    assert identify_backbone({}) is None
    assert identify_backbone({"encoder.ln.weight": torch.zeros(1024), "layer4.2.conv3.weight": "text"}) is None


def test_every_backbone_of_torchvision_has_a_name_for_its_imagenet_weights() -> None:
    assert list(IMAGENET.values()) == OF_TORCHVISION


def test_an_osnet_is_trained_from_its_published_weights() -> None:
    torch.manual_seed(0)
    source = OSNet("osnet_x0_25").eval()
    state = {f"module.{name}": value for name, value in source.state_dict().items()}
    network = EmbedderNetwork("osnet_x0_25", 16).eval()
    checkpoint: Any = {"state_dict": {**state, "module.classifier.weight": torch.zeros(7, 512)}}
    assert network.load_trunk(checkpoint) == ([], [])
    pictures = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(source.fc(network.trunk(pictures).mean(dim=(2, 3))), source(pictures))
        assert network(pictures).shape == (2, 16)


@pytest.mark.parametrize("name", ["efficientnet_b4", "mobilenet_v3_large", "osnet_x1_0", "striped_resnet10_x0_25"])
def test_a_file_of_motserve_names_its_backbone(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = EmbedderNetwork(name, 16).eval()
    path = tmp_path / "mine.safetensors"
    save_file(network.state_dict(), path, {"backbone": name, "dimension": "16"})
    found = build_embedder(config(), weights(path))
    assert (found.dimension, found.crop_size) == (16, SIZE)
    assert found.parameters == sum(values.numel() for values in network.parameters())
    np.testing.assert_allclose(found.embed(crops(3)), TorchEmbedder(config(), network).embed(crops(3)), atol=1e-6)


def test_a_transformer_is_an_embedder_like_the_others() -> None:
    torch.manual_seed(0)
    embedder = TorchEmbedder(config(batch_size=2), EmbedderNetwork("vit_b_16", 16, SIZE))
    together = embedder.embed(crops(3))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together[2:], embedder.embed(crops(3)[2:]), atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_imagenet_weights_of_every_kind_are_embedders(tmp_path: Path, name: str) -> None:
    path = tmp_path / "any_name.pth"
    torch.save(torchvision.models.get_model(name, weights=None).state_dict(), path)
    embedder = build_embedder(config(), weights(path))
    assert embedder.dimension == 512
    np.testing.assert_allclose(np.linalg.norm(embedder.embed(crops(2)), axis=1), 1, atol=1e-5)


def test_imagenet_weights_of_another_depth_are_refused_by_name(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    torch.save({**state, "features.13.0.weight": torch.zeros(1)}, tmp_path / "deeper.pth")
    with pytest.raises(WeightsUnavailable, match=r"deeper\.pth .*not a mobilenet_v3_small: .*13\.0\.weight"):
        build_embedder(config(), weights(tmp_path / "deeper.pth"))


@pytest.fixture
def trained(tmp_path: Path) -> tuple[EmbedderNetwork, Path]:
    """A network whose batch norm has statistics, and its file."""
    torch.manual_seed(0)
    network = EmbedderNetwork("osnet_x0_25", 16).eval()
    norm: Any = network.norm
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.1, 1)
    path = tmp_path / "trained.safetensors"
    save_file(network.state_dict(), path, {"backbone": "osnet_x0_25", "dimension": "16"})
    return network, path


def test_the_feature_before_the_batch_norm_can_be_compared(trained: tuple[EmbedderNetwork, Path]) -> None:
    network, path = trained
    seen: list[torch.Tensor] = []
    network.norm.register_forward_hook(lambda _, before, after: seen.extend([before[0], after]))
    after = TorchEmbedder(config(), network).embed(crops(3))
    expected = [nn.functional.normalize(features).numpy() for features in seen]
    np.testing.assert_allclose(after, expected[1], atol=1e-6)
    np.testing.assert_allclose(build_embedder(config(), weights(path)).embed(crops(3)), expected[1], atol=1e-6)
    before = build_embedder(config(feature="before_norm"), weights(path)).embed(crops(3))
    np.testing.assert_allclose(before, expected[0], atol=1e-6)
    assert np.abs(before - after).max() > 0.1


def test_networks_without_a_final_batch_norm_refuse_before_norm(tmp_path: Path) -> None:
    torch.save(OSNet("osnet_x0_25").state_dict(), tmp_path / "osnet.pth")
    for name in ("osnet.pth", "any.onnx"):
        with pytest.raises(InvalidConfig, match=r"reid\.feature before_norm: .*after_norm"):
            build_embedder(config(feature="before_norm"), weights(tmp_path / name))


# --- the network around a trunk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "resnet50"])
def test_the_network_returns_embeddings(backbone: str) -> None:
    network = EmbedderNetwork(backbone, 32).eval()
    pictures = torch.zeros(2, 3, 64, 32)
    assert network(pictures).shape == (2, 32)
    torch.testing.assert_close(network(pictures), network.norm(network.features(pictures)))


def test_the_last_stage_of_the_resnet_keeps_its_resolution() -> None:
    assert EmbedderNetwork("resnet50").trunk(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)


def test_a_striped_network_has_features_of_each_stripe() -> None:
    torch.manual_seed(0)
    network = EmbedderNetwork("striped_resnet10_x0_25", 32).eval()
    pictures = torch.randn(1, 3, 64, 32)
    features = network.trunk(pictures)
    assert features.shape == (1, BACKBONES["striped_resnet10_x0_25"].channels, 1, 1)
    feet = pictures.clone()
    feet[:, :, 56:] += 1
    changed = (network.trunk(feet) != features).reshape(-1, striped.STRIPES).any(dim=0)
    assert changed[-1]
    assert not changed[0]  # the hair


def test_features_of_a_striped_network_do_not_depend_on_the_crop_resolution() -> None:
    torch.manual_seed(0)
    trunk = EmbedderNetwork("striped_resnet10_x0_5").trunk.eval()
    coarse = torch.randn(2, 3, 64, 32)
    fine = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(trunk(fine), trunk(coarse))


def test_an_unknown_width_is_named() -> None:
    with pytest.raises(ValueError, match="striped_resnet10_x9"):
        striped.StripedTrunk("striped_resnet10_x9")


def test_the_resnet_takes_the_trunk_of_a_classifier() -> None:
    source = torchvision.models.resnet50(weights=None)
    network = EmbedderNetwork("resnet50")
    assert network.load_trunk(source.state_dict()) == ([], [])
    trunk: Any = network.trunk
    torch.testing.assert_close(trunk[0].weight, source.conv1.weight)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ValueError, match="vgg"):
        EmbedderNetwork("vgg")
