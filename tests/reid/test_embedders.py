from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import read_picture

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.weights import Weights
from motserve.reid import build_embedder
from motserve.reid.crops import cut_crops
from motserve.reid.embedder import CropEmbedder
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD

SMALL = {"crop_height": 64, "crop_width": 32, "device": "cpu"}


def weights(path: Path) -> Weights:
    return Weights(path.name, path, "", "")


def build(path: Path, **settings: object) -> CropEmbedder:
    return build_embedder(ReIDConfig.model_validate({**SMALL, **settings}), weights(path))


def crops_of(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 8, 4, 3), np.uint8)
    return np.stack([cv2.resize(crop, (32, 64)) for crop in coarse]) if count else np.empty((0, 64, 32, 3), np.uint8)


def average_colour(path: Path, batch: int | str = "batch", size: Sequence[int | str] = (64, 32), **graph: int) -> Path:
    """An ONNX file whose embedding is the average over the picture of each input channel."""
    onnx = pytest.importorskip("onnx")
    kind = graph.get("kind", onnx.TensorProto.FLOAT)
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("GlobalAveragePool", ["pictures"], ["embedding"])],
        "average",
        [onnx.helper.make_tensor_value_info("pictures", kind, [batch, graph.get("channels", 3), *size])],
        [onnx.helper.make_tensor_value_info("embedding", kind, [batch, graph.get("channels", 3), 1, 1])],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture(params=["torch", "onnx", "onnx of fixed batch"])
def embedder(request: pytest.FixtureRequest, untrained_embedder: Path, tmp_path: Path) -> CropEmbedder:
    if request.param == "torch":
        return build(untrained_embedder, batch_size=2)
    batch = 2 if request.param == "onnx of fixed batch" else "batch"
    return build(average_colour(tmp_path / "average.onnx", batch), batch_size=2)


def test_embeddings_have_unit_length_whatever_the_number_of_crops(embedder: CropEmbedder) -> None:
    for count in (0, 1, 5):
        embeddings = embedder.embed(crops_of(count))
        assert embeddings.shape == (count, embedder.dimension)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_an_embedding_does_not_depend_on_its_neighbours(embedder: CropEmbedder) -> None:
    crops = crops_of(5)
    together = embedder.embed(crops)
    alone = np.concatenate([embedder.embed(crop[None]) for crop in crops])
    backwards = embedder.embed(np.ascontiguousarray(crops[::-1]))[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)


def test_crops_from_shared_memory_are_not_modified(embedder: CropEmbedder) -> None:
    crops = crops_of(3)
    expected = embedder.embed(crops.copy())
    before = crops.copy()
    crops.flags.writeable = False
    np.testing.assert_array_equal(embedder.embed(crops), expected)
    np.testing.assert_array_equal(crops, before)


def test_different_crops_have_different_embeddings(embedder: CropEmbedder) -> None:
    embeddings = embedder.embed(crops_of(2))
    assert not np.allclose(embeddings[0], embeddings[1], atol=1e-3)


def test_parameters_are_counted_where_the_format_has_them(untrained_embedder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    running = ("running_mean", "running_var", "num_batches_tracked")
    trained = [values.size for name, values in load_file(untrained_embedder).items() if not name.endswith(running)]
    assert build(untrained_embedder).parameters == sum(trained)
    assert build(average_colour(tmp_path / "average.onnx")).parameters is None


def test_black_crops_have_finite_embeddings(embedder: CropEmbedder) -> None:
    assert np.isfinite(embedder.embed(np.zeros((2, 64, 32, 3), np.uint8))).all()


@pytest.mark.parametrize(
    ("onnx_input", "expected"),
    [
        ("bgr255", np.array([10, 20, 250], np.float32)),
        ("imagenet", (np.array([250, 20, 10], np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD),
    ],
)
def test_onnx_gets_the_pixels_it_expects(tmp_path: Path, onnx_input: str, expected: np.ndarray) -> None:
    embedder = build(average_colour(tmp_path / "a.onnx"), onnx_input=onnx_input)
    crop = np.full((1, 64, 32, 3), (10, 20, 250), np.uint8)
    np.testing.assert_allclose(embedder.embed(crop)[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_onnx_in_half_precision(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    full = build(average_colour(tmp_path / "full.onnx"))
    half = build(average_colour(tmp_path / "half.onnx", kind=onnx.TensorProto.FLOAT16))
    np.testing.assert_allclose(half.embed(crops_of(3)), full.embed(crops_of(3)), atol=5e-3)
    assert half.embed(crops_of(3)).dtype == np.float32


def test_crops_are_resized_for_onnx_of_another_size(tmp_path: Path) -> None:
    fixed = build(average_colour(tmp_path / "fixed.onnx", size=(128, 64)))
    free = build(average_colour(tmp_path / "free.onnx", size=("height", "width")))
    np.testing.assert_allclose(fixed.embed(crops_of(3)), free.embed(crops_of(3)), atol=2e-2)


def test_boxes_of_a_picture_are_cut_and_embedded(embedder: CropEmbedder) -> None:
    picture = crops_of(1)[0].repeat(4, axis=1)
    boxes = np.array([[0, 0, 32, 64], [10.5, 20, 60, 50], [-20, 5, 20, 90]], np.float32)
    expected = embedder.embed(cut_crops(picture, boxes, 64, 32))
    np.testing.assert_array_equal(embedder.embed_boxes(picture, boxes), expected)
    assert embedder.embed_boxes(picture, boxes[:0]).shape == (0, embedder.dimension)


def test_boxes_are_cut_at_the_size_that_the_graph_takes(tmp_path: Path) -> None:
    fixed = build(average_colour(tmp_path / "fixed.onnx", size=(128, "width")))
    assert fixed.crop_size == (128, 32)
    picture, boxes = crops_of(1)[0], np.array([[3, 5, 30, 61]], np.float32)
    np.testing.assert_array_equal(fixed.embed_boxes(picture, boxes), fixed.embed(cut_crops(picture, boxes, 128, 32)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.onnx", b"no model"),
        ("a.safetensors", b"no model"),
        ("a.safetensors", b""),
        ("resnet50_imagenet.pth", b"no model"),
        ("resnet50_imagenet.pth", b""),
    ],
)
def test_broken_files_raise_weights_unavailable(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsUnavailable, match=name):
        build(path)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(WeightsUnavailable, match="height, width"):
        build(average_colour(tmp_path / "one.onnx", channels=1))
    other = tmp_path / "other.safetensors"
    state = {"weight": torch.zeros(3)}
    for metadata in (None, {"backbone": "vgg", "dimension": "8"}, {"backbone": "resnet50", "dimension": "8"}):
        save_file(state, other, metadata)
        with pytest.raises(WeightsUnavailable, match=r"other\.safetensors"):
            build(other)
    for content in (state, [1, 2], torch.zeros(3)):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(WeightsUnavailable, match=r"other\.pth"):
            build(tmp_path / "other.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsUnavailable):
        build(tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("device", ["cuda:99", "mps"])
def test_a_missing_device_is_an_error(device: str, untrained_embedder: Path, tmp_path: Path) -> None:
    import torch

    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(InvalidConfig, match=device):
        build(untrained_embedder, device=device)


def test_onnx_on_a_device_its_runtime_cannot_use_is_an_error(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = average_colour(tmp_path / "a.onnx")
    with pytest.raises(InvalidConfig, match="mps"):
        build(path, device="mps")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(InvalidConfig, match="cuda:0"):
            build(path, device="cuda:0")


def test_imagenet_weights_get_a_head_that_is_the_same_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch
    from torchvision.models import resnet50

    torch.manual_seed(0)
    path = tmp_path / "resnet50_imagenet.pth"
    torch.save(resnet50(weights=None).state_dict(), path)
    first, second = build(path), build(path)
    assert "never trained for re-identification" in caplog.text
    embeddings = first.embed(crops_of(2))
    assert embeddings.shape == (2, first.dimension) == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(embeddings, second.embed(crops_of(2)))


@pytest.mark.parametrize(
    ("model", "onnx_input", "rank1"),
    [
        ("person-reidentification-retail-0286.onnx", "bgr255", 0.9),
        ("osnet_x0_25_msmt17.onnx", "imagenet", 0.6),
    ],
)
def test_real_models_find_the_same_person_in_another_camera(
    data_dir: Path, model: str, onnx_input: str, rank1: float
) -> None:
    files = sorted((data_dir / "reid_images" / "PKU-Reid-74" / "query").glob("*.png"))[:80]
    people = np.array([int(file.name.split("_")[0]) for file in files])
    camera = np.array([int(file.name.split("_")[1][1]) for file in files])
    crops = np.stack([cv2.resize(read_picture(file), (128, 256)) for file in files]).astype(np.uint8)
    path = data_dir / "models" / "reid" / model
    embeddings = build(path, crop_height=256, crop_width=128, onnx_input=onnx_input).embed(crops)
    distances = 1 - embeddings[camera == 1] @ embeddings[camera == 2].T
    same = people[camera == 1][:, None] == people[camera == 2]
    assert distances[same].mean() < distances[~same].mean() - 0.1
    assert same[np.arange(len(same)), distances.argmin(axis=1)].mean() >= rank1


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
def test_a_gpu_gives_the_same_embeddings(untrained_embedder: Path, half: bool) -> None:
    expected = build(untrained_embedder).embed(crops_of(5))
    found = build(untrained_embedder, device="cuda", half=half).embed(crops_of(5))
    assert (found * expected).sum(axis=1).min() > 0.999
