"""The section of the configuration that describes the object detector."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from motserve.config.base import Backend, Device, Names, Section, Share


def _class_names(value: object) -> object:
    """Return numbers as texts, because YAML reads the class name `0` as a number."""
    names = value if isinstance(value, list | tuple) else [value]
    return [str(name) if isinstance(name, int | float) else name for name in names]


ClassNames = Annotated[tuple[str, ...], BeforeValidator(_class_names)]
"""Class names; a single name is a list of one."""


def _has_area(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = region
    if not (left < right and top < bottom):
        raise ValueError("the left edge must be smaller than the right one, and the top edge than the bottom one")
    return region


Region = Annotated[tuple[Share, Share, Share, Share], AfterValidator(_has_area)]


class DetectorConfig(Section):
    """The object detector."""

    weights: Names = Field(
        ("yolov8s.pt", "bundled"),
        min_length=1,
        description="Weights in order of preference: a path or the name of a file or folder in `models_dir`; the name "
        "of an Ultralytics release (.pt, RT-DETR too; also .onnx, _openvino_model, .engine), of a detector of "
        "torchvision (`fasterrcnn_resnet50_fpn_v2`), of effdet (`tf_efficientdet_d0`) or of the Hugging Face Hub "
        "(`hf://facebook/detr-resnet-50`); `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry; or "
        "`bundled` or `bundled-free` of the package. The first that is available is used. EfficientDet and the Hub "
        "need `pip install 'motserve[detectors]'`.",
    )
    architecture: str | None = Field(
        None,
        description="Architecture of weights in a .pth or .safetensors file, such as `fasterrcnn_resnet50_fpn_v2` or "
        "`tf_efficientdet_d0`. null takes it from the file's metadata or name; weights in other formats contain it.",
    )
    classes: ClassNames = Field(
        ("person",), min_length=1, description="Names of the classes to track; `all` for every class of the weights."
    )
    confidence: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Lowest confidence of the detections that reach the tracker, whose second association uses weak "
        "ones. Raised, tracks of occluded people end sooner; lowered, more false detections reach the tracker.",
    )
    nms_iou: float = Field(
        0.7,
        gt=0,
        le=1,
        description="IoU above which non-maximum suppression drops the weaker of two boxes of a class. Raised, more "
        "boxes of people close together remain, and more duplicates. DETR models have no such step.",
    )
    image_size: int = Field(
        640,
        ge=32,
        le=4096,
        multiple_of=32,
        description="Longer side of the network's input in pixels. Raised, smaller people are detected and detection "
        "takes longer. RT-DETR models stretch a frame to a square of this size, EfficientDet pads it to a square and "
        "takes multiples of 128 and its published size, SSD of torchvision has a fixed input. Published for: YOLO and "
        "RT-DETR 640, Faster R-CNN and DETR 800 to 1333, EfficientDet-D0 512.",
    )
    region: Region | None = Field(
        None,
        description="Left, top, right and bottom edge of the part of the picture in which people are detected, as "
        "shares of width and height, such as [0, 0.3, 1, 1] without the upper part. The smaller it is, the larger are "
        "people in the network's input; people who reach out of it are cut off. null for the whole picture.",
    )
    every: int = Field(
        1,
        ge=1,
        le=100,
        description="Detect in each n-th frame only. The boxes in the frames between are interpolated, and marked so. "
        "Raised, a video takes less time, each frame comes up to n - 1 frames later, and fast people lose their track "
        "sooner; choose at least five detected frames a second.",
    )
    max_detections: int = Field(
        300, ge=1, le=3000, description="Largest number of detections in a frame; the most confident ones are kept."
    )
    device: Device = Field(
        "auto", description="`auto` (CUDA if available, else CPU), `cpu`, `mps`, `cuda` or `cuda:N`."
    )
    backend: Backend = Field(
        "auto",
        description="What runs a YOLO network on the CPU: `torch`, `openvino`, or `auto`: OpenVINO if it gives the "
        "same results, else PyTorch, and the log says why. A network is converted once, for some seconds, and stored "
        "in `cache_dir`. A GPU, RT-DETR, YOLO without non-maximum suppression (YOLO26, YOLOv10) and detectors of "
        "torchvision, effdet and transformers need `torch` or `auto`, and exported formats ignore it.",
    )
    half: bool = Field(True, description="Use half precision on CUDA devices; other devices use single precision.")

    def detects(self, position: int) -> bool:
        """Tell whether the detector gets a frame.

        Args:
            position: Number of decoded frames before it; a folder of pictures may lack some of its numbers.
        """
        return position % self.every == 0
