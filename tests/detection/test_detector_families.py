"""Detectors of torchvision, transformers and effdet, and Ultralytics' RT-DETR, each against its own library.

No trained weights: the networks are random, but sure of the boxes they make up.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from motserve.base import DetectorBase
from motserve.config import DetectorConfig, load_config
from motserve.detection import build_detector
from motserve.detection.families import Choice, identify_family
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.downloads import EFFICIENTDET, TORCHVISION
from motserve.models.weights import Weights
from motserve.pipeline.local_models import LocalModels
from motserve.pipeline.loop import track_frames
from motserve.pipeline.observer import PipelineStats
from motserve.types import Detections, Frame, Image

NAMES = {1: "person", 2: "dog"}
METADATA = {"names": json.dumps(NAMES)}
FASTER_RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
EFFDET = "tf_efficientdet_lite0"
SIZE = 128


def build(path: Path, **settings: object) -> DetectorBase:
    config = DetectorConfig.model_validate({"device": "cpu", "image_size": SIZE, "classes": "all", **settings})
    return build_detector(config, Weights(path.name, path, "", ""))


def picture(height: int, width: int, seed: int) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


def sharpen(layer: Any, spread: float, bias: float = 0.0) -> None:
    """Spread a random layer's outputs, so that no two boxes tie."""
    import torch

    torch.nn.init.normal_(layer.weight, std=spread)
    torch.nn.init.constant_(layer.bias, bias)


def oppose(layer: Any, first: int, second: int) -> None:
    """Let one of two classes always win: their logits are opposite, and no third class takes part."""
    import torch

    weight = layer.weight.detach()[first].clone()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[first], layer.weight[second] = weight, -weight


def warm_up_batch_norms(network: Any) -> None:
    """Update batch norms with a few pictures; without statistics, the output does not depend on the picture."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    pixels = np.stack([picture(SIZE, SIZE, seed) for seed in range(4)]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        network.train()(torch.from_numpy(pixels / 127.5 - 1).float())
    network.eval()


def torchvision_network(architecture: str = FASTER_RCNN, classes: int = 3, **settings: Any) -> Any:
    import torch
    from torchvision.models import get_model

    torch.manual_seed(0)
    return get_model(architecture, weights=None, weights_backbone=None, num_classes=classes, **settings).eval()


def save_faster_rcnn(folder: Path) -> Path:
    from safetensors.torch import save_file

    network = torchvision_network()
    warm_up_batch_norms(network.backbone)
    sharpen(network.rpn.head.cls_logits, 0.1)
    sharpen(network.roi_heads.box_predictor.cls_score, 0.02)
    oppose(network.roi_heads.box_predictor.cls_score, 1, 2)
    sharpen(network.roi_heads.box_predictor.bbox_pred, 0.005)
    path = folder / "mine.safetensors"
    save_file(network.state_dict(), path, {"architecture": FASTER_RCNN, **METADATA})
    return path


def small_resnet(*stages: str) -> dict[str, Any]:
    """Settings of a backbone that gives these stages."""
    sizes = {"embedding_size": 16, "hidden_sizes": [16] * 4, "depths": [1] * 4}
    return {**sizes, "layer_type": "basic", "out_features": list(stages)}


def save_detr(folder: Path) -> Path:
    import torch
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    torch.manual_seed(0)
    backbone = ResNetConfig(**small_resnet("stage4"))
    config = DetrConfig(
        backbone_config=backbone,
        num_queries=30,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        id2label={0: "N/A", **NAMES},
        label2id={"N/A": 0, "person": 1, "dog": 2},
        init_std=0.3,
    )
    network = DetrForObjectDetection(config)
    sharpen(network.class_labels_classifier, 0.1)
    oppose(network.class_labels_classifier, 1, 2)
    sharpen(network.bbox_predictor.layers[-1], 0.03)
    network.save_pretrained(folder / "detr")
    DetrImageProcessor(size={"shortest_edge": 800, "longest_edge": 1333}).save_pretrained(folder / "detr")
    return folder / "detr"


def save_rt_detr(folder: Path) -> Path:
    import torch
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(**small_resnet("stage2", "stage3", "stage4"))
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=32,
        encoder_in_channels=[16] * 3,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        d_model=32,
        decoder_in_channels=[32] * 3,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        decoder_layers=2,
        num_queries=30,
        num_denoising=0,
        initializer_range=0.3,
        id2label={0: "person", 1: "dog"},
        label2id={"person": 0, "dog": 1},
    )
    network = RTDetrForObjectDetection(config)
    for head in (network.model.enc_bbox_head, *network.model.decoder.bbox_embed):
        sharpen(head.layers[-1], 0.03)
    for head in (network.model.enc_score_head, *network.model.decoder.class_embed):
        sharpen(head, 0.3)
    network.save_pretrained(folder / "rt_detr")
    RTDetrImageProcessor(size={"height": 640, "width": 640}).save_pretrained(folder / "rt_detr")
    return folder / "rt_detr"


def efficientdet_network(bench: str = "", **settings: Any) -> Any:
    import torch
    from effdet import create_model

    torch.manual_seed(0)
    return create_model(
        EFFDET, bench_task=bench, pretrained_backbone=False, num_classes=2, image_size=(SIZE, SIZE), **settings
    ).eval()


def save_efficientdet(folder: Path) -> Path:
    from safetensors.torch import save_file

    network = efficientdet_network()
    warm_up_batch_norms(network)
    sharpen(network.class_net.predict.conv_pw, 0.1, -3.0)
    sharpen(network.box_net.predict.conv_pw, 0.02)
    path = folder / f"{EFFDET}-mine.safetensors"
    save_file({name: values.contiguous() for name, values in network.state_dict().items()}, path, METADATA)
    return path


SAVE: dict[str, Callable[[Path], Path]] = {
    "faster_rcnn": save_faster_rcnn,
    "detr": save_detr,
    "rt_detr": save_rt_detr,
    "efficientdet": save_efficientdet,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the weights of a family, created at the first call."""
    made: dict[str, Path] = {}

    def give(family: str) -> Path:
        if family in ("detr", "rt_detr"):
            pytest.importorskip("transformers")
        if family == "efficientdet":
            pytest.importorskip("effdet")
        if family not in made:
            made[family] = SAVE[family](tmp_path_factory.mktemp(family))
        return made[family]

    return give


@pytest.fixture(scope="module", params=list(SAVE))
def weights(request: pytest.FixtureRequest, saved: Callable[[str], Path]) -> Path:
    """The weights of each family in turn."""
    return saved(request.param)


def assert_equal(detections: Detections, boxes: Any, scores: Any, labels: Any, best: int = 20) -> None:
    """Compare with a library's own result, without thin boxes: the best of each are in the other."""
    boxes, scores, labels = (np.asarray(values.detach()) for values in (boxes, scores, labels))
    thick = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    order = np.argsort(-scores[thick], kind="stable")
    expected = Detections(boxes[thick][order], scores[thick][order], labels[thick][order])
    assert len(detections) == len(expected) > 0
    for ours, theirs in ((detections, expected), (expected, detections)):
        same = np.abs(ours.boxes[:best, None] - theirs.boxes[None]).max(axis=2) < 1e-2
        same &= np.abs(ours.scores[:best, None] - theirs.scores[None]) < 1e-4
        same &= ours.classes[:best, None] == theirs.classes[None]
        assert same.any(axis=1).all()


def clip(boxes: Any, image: Image) -> Any:
    from torchvision.ops import clip_boxes_to_image

    return clip_boxes_to_image(boxes, image.shape[:2])


def as_rgb(image: Image) -> Any:
    from PIL.Image import fromarray

    return fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


@pytest.mark.parametrize(
    ("architecture", "prefix", "confidence"),
    [
        (FASTER_RCNN, "box_", 0.1),
        ("fasterrcnn_resnet50_fpn_v2", "box_", 0.1),
        ("retinanet_resnet50_fpn", "", 0.01),
        ("fcos_resnet50_fpn", "", 0.01),
        ("ssdlite320_mobilenet_v3_large", "", 0.1),
    ],
)
def test_torchvision_gives_what_its_model_gives(
    architecture: str, prefix: str, confidence: float, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.transforms.functional import to_tensor

    limits: dict[str, Any] = {
        f"{prefix}score_thresh": confidence,
        f"{prefix}nms_thresh": 0.6,
        f"{prefix}detections_per_img": 10**6,
    }
    sizes: dict[str, Any] = {} if architecture.startswith("ssd") else {"min_size": SIZE, "max_size": SIZE}
    network = torchvision_network(architecture, **limits, **sizes)
    warm_up_batch_norms(network.backbone)
    path = tmp_path / f"{architecture}.safetensors"
    save_file(network.state_dict(), path, METADATA)
    image = picture(150, 200, 1)
    with torch.inference_mode():
        expected = network([to_tensor(as_rgb(image))])[0]
    # some of them have an output for the background too, which is never the best class after training
    named = expected["labels"] > 0
    boxes, scores, labels = (expected[key][named] for key in ("boxes", "scores", "labels"))
    (detections,) = build(path, confidence=confidence, nms_iou=0.6, max_detections=3000).detect([image])
    assert_equal(detections, boxes, scores, labels)


@pytest.mark.parametrize("family", ["detr", "rt_detr"])
@pytest.mark.parametrize("confidence", [0.0, 0.36])
def test_transformers_gives_what_its_model_gives(saved: Callable[[str], Path], family: str, confidence: float) -> None:
    path = saved(family)
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    size = {"longest_edge": SIZE, "shortest_edge": SIZE} if family == "detr" else {"height": SIZE, "width": SIZE}
    processor = AutoImageProcessor.from_pretrained(path, size=size)
    network = AutoModelForObjectDetection.from_pretrained(path)
    image = picture(150, 200, 1)
    with torch.inference_mode():
        outputs = network(**processor(images=as_rgb(image), return_tensors="pt"))
    (expected,) = processor.post_process_object_detection(outputs, confidence, target_sizes=[image.shape[:2]])
    named = expected["labels"] > (0 if family == "detr" else -1)
    boxes, scores, labels = (expected[key][named] for key in ("boxes", "scores", "labels"))
    (detections,) = build(path, confidence=confidence).detect([image])
    assert_equal(detections, clip(boxes, image), scores, labels)


def test_efficientdet_gives_what_effdet_gives(saved: Callable[[str], Path]) -> None:
    path = saved("efficientdet")
    import torch
    from safetensors.torch import load_file

    bench = efficientdet_network("predict", max_det_per_image=20)
    bench.model.load_state_dict(load_file(path))
    image = picture(96, SIZE, 1)
    pixels, scale = efficientdet_input(image)
    size = torch.tensor([[SIZE, 96]], dtype=torch.float32)
    with torch.inference_mode():
        expected = bench(pixels, {"img_scale": torch.tensor([scale]), "img_size": size})[0]
    (detections,) = build(path, nms_iou=0.5, max_detections=20).detect([image])
    assert_equal(detections, expected[:, :4], expected[:, 4], expected[:, 5])


@pytest.mark.parametrize(("height", "width"), [(150, 200), (201, 96), (61, 100)])
def test_efficientdet_sees_what_effdet_shows(saved: Callable[[str], Path], height: int, width: int) -> None:
    detector: Any = build(saved("efficientdet"))
    image = picture(height, width, 1)
    seen: list[Any] = []
    detector._network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    detector.detect([image])
    difference = (seen[0] - efficientdet_input(image)[0]).abs() * 127.5
    # torch and Pillow round differently here and there
    assert difference.max() < 1.01
    assert difference.mean() < 0.01


def efficientdet_input(image: Image) -> tuple[Any, float]:
    """The network's input as effdet makes it; mean and deviation of the lite models are 0.5."""
    import torch
    from effdet.data.transforms import ResizePad

    square, notes = ResizePad(SIZE, fill_color=(128, 128, 128))(as_rgb(image), {})
    return torch.from_numpy(np.array(square, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1), notes["img_scale"]


def test_rt_detr_of_ultralytics_gives_what_it_gives(tmp_path: Path) -> None:
    import torch

    from motserve.models.libraries import import_ultralytics

    ultralytics = import_ultralytics()
    from ultralytics.nn.tasks import RTDETRDetectionModel

    torch.manual_seed(0)
    network: Any = RTDETRDetectionModel("rtdetr-l.yaml", nc=2, verbose=False)
    sharpen(network.model[-1].enc_bbox_head.layers[-1], 0.1)
    network.names = {0: "person", 1: "dog"}
    parameters = sum(values.numel() for values in network.parameters())
    path = tmp_path / "rtdetr-l.pt"
    torch.save({"model": network, "train_args": {}}, path)
    image = picture(150, 200, 1)
    options = {"imgsz": SIZE, "conf": 0.1, "max_det": 20, "device": "cpu", "verbose": False}
    boxes = ultralytics.RTDETR(path).predict([image], **options)[0].boxes
    detector = build(path, max_detections=20)
    (detections,) = detector.detect([image])
    assert_equal(detections, clip(boxes.xyxy, image), boxes.conf, boxes.cls)
    assert detector.class_names == network.names
    assert detector.parameters == parameters
    assert_same(detector.detect([picture(64, 64, 2), image])[1], detections)


def assert_same(detections: Detections, expected: Detections) -> None:
    """Compare by nearest box: arithmetic of another batch size may change the order."""
    assert len(expected) > 0
    for ours, theirs in ((detections, expected), (expected, detections)):
        sure = ours.scores > 0.11
        distance = np.abs(ours.boxes[sure, None] - theirs.boxes[None]).max(axis=2)
        same = (distance < 0.5) & (np.abs(ours.scores[sure, None] - theirs.scores[None]) < 0.01)
        assert (same & (ours.classes[sure, None] == theirs.classes[None])).any(axis=1).all()


def test_detections_are_well_formed_and_best_first(weights: Path) -> None:
    (detections,) = build(weights, max_detections=10).detect([picture(96, 128, 0)])
    assert 0 < len(detections) <= 10
    assert detections.boxes.dtype == detections.scores.dtype == np.float32
    assert detections.classes.dtype == np.int64
    assert all(a >= b for a, b in pairwise(detections.scores))
    assert (detections.scores >= 0.1).all()
    assert (detections.scores <= 1).all()
    assert (detections.boxes[:, 2:] - detections.boxes[:, :2] >= 1).all()
    assert (detections.boxes >= 0).all()
    assert (detections.boxes <= [128, 96, 128, 96]).all()


def test_results_are_in_order_and_independent_of_the_batch(weights: Path) -> None:
    detector = build(weights, max_detections=3000)
    shapes = [(96, 128), (128, 96), (96, 128), (64, 128), (128, 96), (200, 300)]
    pictures = [picture(height, width, seed) for seed, (height, width) in enumerate(shapes)]
    together = detector.detect(pictures)
    assert len({detections.boxes.tobytes() for detections in together}) == len(pictures)
    for image, detections in zip(pictures, together, strict=True):
        assert_same(detections, detector.detect([image])[0])
    for detections, expected in zip(detector.detect(pictures[::-1])[::-1], together, strict=True):
        assert_same(detections, expected)
    assert detector.detect([]) == []


def test_pictures_from_shared_memory_are_not_modified(weights: Path) -> None:
    detector = build(weights)
    image = picture(96, 128, 0)
    before = image.copy()
    image.flags.writeable = False
    assert_same(detector.detect([image])[0], detector.detect([before])[0])
    np.testing.assert_array_equal(image, before)


def test_a_picture_without_confident_detections_has_none(weights: Path) -> None:
    detections = build(weights, confidence=1.0).detect([picture(96, 128, 0), picture(96, 128, 1)])
    assert [item.boxes.shape for item in detections] == [(0, 4), (0, 4)]


def test_classes_are_selected_by_name(weights: Path) -> None:
    image = picture(96, 128, 0)
    every = build(weights, max_detections=3000)
    (detections,) = every.detect([image])
    assert set(every.class_names.values()) == {"person", "dog"}
    for index, name in every.class_names.items():
        chosen = build(weights, max_detections=3000, classes=name)
        assert chosen.class_names == {index: name}
        np.testing.assert_allclose(
            chosen.detect([image])[0].boxes, detections.boxes[detections.classes == index], atol=1e-3
        )
    with pytest.raises(InvalidConfig, match=r"detector\.classes: 'horse' is no class of .*; it has person, dog"):
        build(weights, classes=["person", "horse"])


def test_max_detections_counts_selected_classes_only(weights: Path) -> None:
    image = picture(96, 128, 0)
    every = build(weights, max_detections=3000)
    (detections,) = every.detect([image])
    # the class of the last, so that it is not among the best of all where there are two
    index = int(detections.classes[-1])
    (few,) = build(weights, max_detections=2, classes=every.class_names[index]).detect([image])
    np.testing.assert_allclose(few.boxes, detections.boxes[detections.classes == index][:2], atol=1e-3)


def test_a_missing_device_is_an_error(weights: Path) -> None:
    with pytest.raises(InvalidConfig, match="cuda:99"):
        build(weights, device="cuda:99")


def test_parameters_are_counted(weights: Path) -> None:
    counts = {"faster_rcnn": 18_959_754, "detr": 42_712, "rt_detr": 227_386, "efficientdet": 3_191_990}
    family = next(name for name in ("rt_detr", *counts) if weights.parent.name.startswith(name))
    assert build(weights).parameters == counts[family]


def test_configuration_alone_tracks_with_any_of_them(weights: Path) -> None:
    config = load_config(
        [
            {
                "detector": {"weights": str(weights), "classes": "all", "device": "cpu", "image_size": SIZE},
                "tracker": {"high_confidence": 0.2, "new_track_confidence": 0.2},
                "reid": {"policy": "off"},
            }
        ]
    )
    models = LocalModels(config)
    frames = [Frame(i, i / 10, picture(96, 128, 0)) for i in range(3)]
    stats = PipelineStats()

    async def track() -> int:
        return sum(
            [
                len(frame.tracks)
                async for chunk in track_frames(iter(frames), models.detect, models.embed, config, stats)
                for frame in chunk
            ]
        )

    assert asyncio.run(track()) > 0
    assert stats.frames == 3
    assert models.models["detector"] is not None
    assert models.models["detector"]["name"] == weights.name


@pytest.mark.parametrize("name", [f"{FASTER_RCNN}.pth", f"{FASTER_RCNN}.safetensors", f"{EFFDET}.pth"])
@pytest.mark.parametrize("content", [b"", b"this is no model"])
def test_broken_files_raise_weights_unavailable(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsUnavailable, match=str(path)):
        build(path)


def test_broken_folders_raise_weights_unavailable(saved: Callable[[str], Path], tmp_path: Path) -> None:
    parts = {file.name: file.read_bytes() for file in saved("detr").iterdir()}

    def folder(name: str, **files: bytes | None) -> Path:
        path = tmp_path / name
        path.mkdir()
        for file, content in {**parts, **files}.items():
            if content is not None:
                (path / file).write_bytes(content)
        return path

    torn = parts["model.safetensors"][:1000]
    for path in (
        folder("config", **{"config.json": b"{"}),
        folder("other", **{"config.json": b'{"model_type": "bert"}'}),
        folder("no-weights", **{"model.safetensors": None}),
        folder("torn", **{"model.safetensors": torn}),
        folder("no-preprocessor", **{"preprocessor_config.json": None}),
    ):
        with pytest.raises(WeightsUnavailable, match=str(path)):
            build(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsUnavailable, match="empty"):
        build(tmp_path / "empty")


def test_a_model_that_lacks_arrays_is_not_filled_with_random_ones(saved: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = saved("detr")
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((path / file).read_bytes())
    state = load_file(path / "model.safetensors")
    del state["class_labels_classifier.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsUnavailable, match=r"1 arrays are missing .* class_labels_classifier\.weight"):
        build(tmp_path)


def test_a_file_of_another_network_is_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(WeightsUnavailable, match=r"holds no ssdlite320.*misses .* arrays"):
        build(saved("faster_rcnn"), architecture="ssdlite320_mobilenet_v3_large")
    with pytest.raises(WeightsUnavailable, match=r"holds no tf_efficientdet_d0 .*too many"):
        build(saved("faster_rcnn"), architecture="tf_efficientdet_d0")
    path = tmp_path / f"{FASTER_RCNN}.pth"
    for content in ([1, 2], {"model": {"a": torch.zeros(1)}}):
        torch.save(content, path)
        with pytest.raises(WeightsUnavailable, match="no state dict"):
            build(path)
    # another number of classes than COCO's, without names
    torch.save(torchvision_network().state_dict(), path)
    with pytest.raises(WeightsUnavailable, match="without `names`"):
        build(path)
    named = tmp_path / f"{FASTER_RCNN}.safetensors"
    for names in ('["person"]', '{"0": "person"}', "{}", "person"):
        save_file({"a": torch.zeros(1)}, named, {"names": names})
        with pytest.raises(WeightsUnavailable, match=str(named)):
            build(named)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    for name in (f"{FASTER_RCNN}.pth", f"{EFFDET}.pth"):
        torch.save({"weight": Evil()}, tmp_path / name)
        with pytest.raises(WeightsUnavailable, match=r"weights_only|Weights only"):
            build(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_code_beside_a_model_is_not_run(saved: Callable[[str], Path], tmp_path: Path) -> None:
    for file in saved("detr").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {name: f"mine.{name}" for name in (
        "AutoConfig", "AutoModelForObjectDetection"
    )}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    with pytest.raises(WeightsUnavailable, match=str(tmp_path)):
        build(tmp_path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(("family", "module"), [("detr", "transformers"), ("efficientdet", "effdet")])
def test_the_error_of_a_missing_library_names_the_extra(
    saved: Callable[[str], Path], family: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(family)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidConfig, match=rf"needs {module} .*pip install 'motserve\[detectors\]'"):
        build(path)


def test_efficientdet_takes_sizes_that_its_features_divide(saved: Callable[[str], Path]) -> None:
    path = saved("efficientdet")
    assert len(build(path, image_size=320).detect([picture(96, 128, 0)])) == 1
    with pytest.raises(InvalidConfig, match=r"image_size 352: tf_efficientdet_lite0 supports multiples of 128, or 320"):
        build(path, image_size=352)


def test_files_of_coco_have_its_names(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
    network = torchvision_network("ssdlite320_mobilenet_v3_large", classes=91)
    torch.save(network.state_dict(), path)
    names = build(path).class_names
    assert len(names) == 80
    assert (names[1], names[18], names[90]) == ("person", "dog", "toothbrush")
    assert build(path, classes="person").class_names == {1: "person"}


def test_published_resnet_weights_have_batch_norm_without_epsilon(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torch.nn import BatchNorm2d

    path = tmp_path / "fasterrcnn_resnet50_fpn.safetensors"
    save_file(torchvision_network("fasterrcnn_resnet50_fpn").state_dict(), path, METADATA)
    for sha256, epsilon in (("258fb6c6" + 56 * "0", 0.0), ("0" * 64, 1e-5)):
        config = DetectorConfig.model_validate({"device": "cpu"})
        detector: Any = build_detector(config, Weights(path.name, path, sha256, ""))
        assert {layer.eps for layer in detector._network.modules() if isinstance(layer, BatchNorm2d)} == {epsilon}


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("yolov8s.pt", Choice("ultralytics")),
        ("rtdetr-l.pt", Choice("ultralytics")),
        ("yolov8s.onnx", Choice("ultralytics")),
        ("yolov8s.engine", Choice("ultralytics")),
        ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", Choice("torchvision", "fasterrcnn_resnet50_fpn")),
        ("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", Choice("torchvision", "fasterrcnn_resnet50_fpn_v2")),
        ("fasterrcnn_resnet50_fpn_v2.pth", Choice("torchvision", "fasterrcnn_resnet50_fpn_v2")),
        ("retinanet_resnet50_fpn_v2_coco-5905b1c5.pth", Choice("torchvision", "retinanet_resnet50_fpn_v2")),
        ("tf_efficientdet_d0_34-f153e0cf.pth", Choice("efficientdet", "tf_efficientdet_d0")),
        ("tf_efficientdet_d7x-f390b87c.pth", Choice("efficientdet", "tf_efficientdet_d7x")),
        ("tf_efficientdet_d0_ap-d0cdbd0a.pth", Choice("efficientdet", "tf_efficientdet_d0_ap")),
    ],
)
def test_the_family_is_identified_by_file_name(name: str, choice: Choice) -> None:
    assert identify_family(DetectorConfig(), Weights(name, Path(name), "", "")) == choice


def test_the_family_is_identified_by_metadata_and_configuration(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def choose(metadata: dict[str, str], architecture: str | None = None, name: str = "mine.safetensors") -> Choice:
        save_file({"a": torch.zeros(1)}, tmp_path / name, metadata)
        return identify_family(DetectorConfig(architecture=architecture), Weights(name, tmp_path / name, "", ""))

    assert choose({"architecture": "yolov8s"}) == Choice("ultralytics", "yolov8s")
    assert choose({"architecture": "ssd300_vgg16"}) == Choice("torchvision", "ssd300_vgg16")
    assert choose({"architecture": "ssd300_vgg16"}, "fcos_resnet50_fpn") == Choice("torchvision", "fcos_resnet50_fpn")
    # the bundled weights stay what they are where other weights of the list need the key
    assert choose({"architecture": "yolov8s"}, "fcos_resnet50_fpn") == Choice("ultralytics", "yolov8s")
    assert choose({}, "tf_efficientdet_d0") == Choice("efficientdet", "tf_efficientdet_d0")
    assert choose({"architecture": "x"}, name="ssd300_vgg16.safetensors") == Choice("torchvision", "ssd300_vgg16")
    with pytest.raises(InvalidConfig, match=r"detector\.architecture is needed: .*mine\.safetensors.*tf_effi"):
        choose({})
    with pytest.raises(InvalidConfig, match=r"detector\.architecture vgg is not known; known are fasterrcnn"):
        choose({}, "vgg")


def test_the_family_of_a_folder_is_identified(tmp_path: Path) -> None:
    folder = tmp_path / "yolov8s_openvino_model"
    folder.mkdir()
    assert identify_family(DetectorConfig(), Weights("a", folder, "", "")) == Choice("ultralytics")
    (folder / "config.json").touch()
    assert identify_family(DetectorConfig(), Weights("a", folder, "", "")) == Choice("transformers")


def test_every_name_is_known_to_its_library() -> None:
    from torchvision.models import detection, list_models

    # the others of that module find key points or masks too
    published = {name for name in list_models(detection) if not name.startswith(("keypoint", "mask"))}
    assert set(TORCHVISION) == published
    config = pytest.importorskip("effdet.config.model_config")
    assert set(EFFICIENTDET) <= set(config.efficientdet_model_param_dict)


def test_sessions_do_not_load_torch() -> None:
    import subprocess

    code = "import sys, motserve.detection; sys.exit(bool({'torch', 'ultralytics', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
def test_a_gpu_finds_the_same(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # random networks amplify rounding: compare without TF32 of tensor cores
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    images = [picture(96, 128, seed) for seed in range(3)]
    reference = build(weights).detect(images)
    for detections, expected in zip(build(weights, device="cuda", half=False).detect(images), reference, strict=True):
        best = np.abs(detections.boxes - expected.boxes[0]).max(axis=1).argmin()
        np.testing.assert_allclose(detections.boxes[best], expected.boxes[0], atol=2)
        np.testing.assert_allclose(detections.scores[best], expected.scores[0], atol=0.02)


@pytest.mark.gpu
def test_half_precision_on_a_gpu_gives_valid_boxes(weights: Path) -> None:
    for detections in build(weights, device="cuda", half=True).detect([picture(96, 128, seed) for seed in range(3)]):
        assert len(detections) > 0
        assert detections.boxes.dtype == detections.scores.dtype == np.float32
        assert np.isfinite(detections.boxes).all()
        assert all(a >= b for a, b in pairwise(detections.scores))
