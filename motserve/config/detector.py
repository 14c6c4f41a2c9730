"""The section of the configuration that describes the object detector."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from motserve.config.base import Device, Names, Section


def _texts(value: object) -> object:
    """YAML reads the name `0` as a number; whether there is such a class is for the weights to say."""
    many = value if isinstance(value, list | tuple) else [value]
    return [str(one) if isinstance(one, int | float) else one for one in many]


ClassNames = Annotated[tuple[str, ...], BeforeValidator(_texts)]
"""A list of names of classes; a single name stands for a list of one."""


class DetectorConfig(Section):
    """The object detector."""

    weights: Names = Field(
        ("yolov8s.pt", "bundled"),
        min_length=1,
        description="Weights in order of preference: a path or the name of a file or folder in `models_dir`; the name "
        "of an Ultralytics release (.pt, RT-DETR too; also .onnx, _openvino_model, .engine), of a detector of "
        "torchvision (`fasterrcnn_resnet50_fpn_v2`), of one of effdet (`tf_efficientdet_d0`) or of one on the Hugging "
        "Face Hub (`hf://facebook/detr-resnet-50`); `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry; or "
        "`bundled`. The first that can be had is used.",
    )
    architecture: str | None = Field(
        None,
        description="Architecture of weights in a .pth or .safetensors file, such as `fasterrcnn_resnet50_fpn_v2` or "
        "`tf_efficientdet_d0`. null takes it from the file's metadata or name; other weights tell it themselves.",
    )
    classes: ClassNames = Field(
        ("person",), min_length=1, description="Class names to follow; `all` for every class the weights know."
    )
    confidence: float = Field(
        0.1, ge=0, le=1, description="Lowest confidence that reaches the tracker; its second stage lives on low ones."
    )
    nms_iou: float = Field(
        0.7,
        gt=0,
        le=1,
        description="IoU above which non-maximum suppression drops the weaker of two boxes of a class. DETR and its "
        "kin have no such step.",
    )
    image_size: int = Field(
        640,
        ge=32,
        le=4096,
        multiple_of=32,
        description="Longer side of the network's input in pixels. RT-DETR and its kin stretch a picture to a square "
        "of this size, EfficientDet pads it to one and takes multiples of 128 and the size it was published for, "
        "torchvision's SSD has an input of its own. Published for: YOLO and RT-DETR 640, Faster R-CNN and DETR 800 to "
        "1333, EfficientDet-D0 512.",
    )
    max_detections: int = Field(300, ge=1, le=3000, description="Most detections kept in a frame.")
    device: Device = Field("auto", description="`auto` (CUDA where there is one, else CPU), `cpu`, `cuda` or `cuda:N`.")
    half: bool = Field(True, description="Half precision on CUDA devices; elsewhere single precision is used.")
