"""The sections of the configuration that describe how one video is tracked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from motserve.config.paths import expand_names


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), expand_names]
"""A list of names of weights, or paths to them; a single name stands for a list of one."""


def _texts(value: object) -> object:
    """YAML reads the name `0` as a number; whether there is such a class is for the weights to say."""
    many = value if isinstance(value, list | tuple) else [value]
    return [str(one) if isinstance(one, int | float) else one for one in many]


ClassNames = Annotated[tuple[str, ...], BeforeValidator(_texts)]
"""A list of names of classes; a single name stands for a list of one."""


def _off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


Policy = Annotated[Literal["off", "on_demand", "interval", "always"], BeforeValidator(_off)]

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]

Share = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

Role = Literal["detector", "reid"]
"""The sections that name weights."""


class Section(BaseModel):
    """A part of the tree: immutable, every field described, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


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


class GalleryConfig(Section):
    """What is remembered of each identity, and for how long."""

    size: int = Field(
        8,
        ge=1,
        le=256,
        description="Embeddings kept of each identity; of the two that are most alike, the older makes room.",
    )
    contradiction: float = Field(
        0.6,
        ge=0,
        le=2,
        description="Cosine distance from all that is remembered of somebody beyond which their track shows somebody "
        "else, whom the tracker took for the same: memory begins anew. `motserve calibrate reid` finds it.",
    )
    memory_s: float = Field(
        120.0, gt=0, le=86400, description="Seconds after which an identity that was not seen again is forgotten."
    )
    max_identities: int = Field(
        2000, ge=1, le=1_000_000, description="Most absent identities remembered; the longest absent are forgotten."
    )


class TrustConfig(Section):
    """Which crops are good enough to tell who somebody is."""

    min_height: float = Field(32.0, ge=1, le=1 << 20, description="Least height of a box in pixels.")
    min_confidence: float = Field(0.3, ge=0, le=1, description="Least confidence of the detection.")
    max_overlap: float = Field(0.3, ge=0, le=1, description="Largest share of a box that another box covers.")
    border: float = Field(
        0.005,
        ge=0,
        le=0.5,
        description="A box that comes this near to the border of the picture, as a share of its width or height, is "
        "taken to be cut off by it.",
    )


class DecisionConfig(Section):
    """How a track that begins gets its identity: its frames are held back until it is known who it is."""

    wait_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="Longest time in seconds that frames are held back for a decision. Nobody waits where no one who "
        "is away could have come there. With 0 the first frame decides.",
    )
    num_embeddings: int = Field(3, ge=1, le=64, description="Embeddings of a track that are compared, averaged.")
    interval_s: float = Field(0.2, ge=0, le=60, description="Least time in seconds between two of them.")
    margin: float = Field(
        0.05,
        ge=0,
        le=2,
        description="By how much a returning person must be nearer to their identity than to everybody else, in the "
        "picture or away.",
    )


class MotionGateConfig(Section):
    """The motion gate: which returns are plausible whatever the appearance says."""

    max_speed: float = Field(
        2.0,
        gt=0,
        le=100,
        description="Fastest plausible return, in body heights per second between the boxes. Raised, more returns far "
        "away are linked, right and wrong ones.",
    )
    slack: float = Field(
        1.0, ge=0, le=100, description="Distance in body heights that a return may cover however short the absence."
    )
    reentry: bool = Field(
        True,
        description="Whether a person who left through the border of the picture gets the old identity on return. "
        "Ground truth of the MOTChallenge mostly counts each visit as another person; set it to false to be scored "
        "there.",
    )
    exit_border: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Without `reentry`: a person last seen this near to the border, as a share of the picture's width "
        "or height, has left.",
    )


class ReIDConfig(Section):
    """Appearance: the embedder and the linker that gives a returning person the old identity."""

    policy: Policy = Field(
        "on_demand",
        description="`on_demand` embeds only where an embedding can change an answer, `interval` everybody each "
        "`refresh_interval_s`, `always` every row of every frame, `off` none: then each track is an identity.",
    )
    weights: Names = Field(
        ("resnet50_reid.safetensors", "bundled"),
        min_length=1,
        description="Weights in order of preference: a path or the name of a file in `models_dir` (.safetensors of "
        "motserve on any of its backbones, .onnx, .pth of torchreid with an OSNet); torchvision's for ImageNet, "
        "`resnet50-imagenet`, `vit_b_16-imagenet`, `efficientnet_b4-imagenet`, `mobilenet_v3_large-imagenet` or "
        "`mobilenet_v3_small-imagenet` (not in the default list, because a head that never saw people puts everybody "
        "within `max_distance`); `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry; or `bundled`.",
    )
    device: Device = Field("auto", description="`auto` (CUDA where there is one, else CPU), `cpu`, `cuda` or `cuda:N`.")
    half: bool = Field(True, description="Half precision on CUDA devices; elsewhere single precision is used.")
    onnx_input: Literal["imagenet", "bgr255"] = Field(
        "imagenet",
        description="What an .onnx embedder expects: `imagenet` is RGB / 255 normalised with ImageNet's mean and "
        "deviation, `bgr255` is BGR from 0 to 255. Other formats know their own input.",
    )
    feature: Literal["after_norm", "before_norm"] = Field(
        "after_norm",
        description="What is compared: the output of the network's last batch norm, or what goes into it, on which the "
        "triplet loss works. For evaluation; other networks than motserve's have `after_norm` only.",
    )
    crop_height: int = Field(
        256, ge=32, le=1024, description="Height of a crop in pixels; for vit_b_16 a multiple of 16."
    )
    crop_width: int = Field(
        128, ge=16, le=1024, description="Width of a crop in pixels; for vit_b_16 a multiple of 16."
    )
    batch_size: int = Field(32, ge=1, le=1024, description="Most crops in one pass of the network.")
    max_distance: float = Field(
        0.3,
        ge=0,
        le=2,
        description="Largest cosine distance that links: of a track's embeddings to the nearest of an identity, "
        "averaged. Each model has a scale of its own; `motserve calibrate reid` finds it.",
    )
    refresh_interval_s: float = Field(
        0.5, gt=0, le=600, description="Seconds between two embeddings of a track that goes into the gallery."
    )
    refresh_growth: float = Field(
        1.3,
        ge=1,
        le=10,
        description="With `on_demand`, each interval is this many times the one before: who has been seen for long "
        "looks no different.",
    )
    refresh_max_s: float = Field(10.0, gt=0, le=3600, description="Longest of these intervals in seconds.")
    trust: TrustConfig = Field(TrustConfig(), description="Which crops are looked at.")
    decision: DecisionConfig = Field(DecisionConfig(), description="How a track that begins gets its identity.")
    gate: MotionGateConfig = Field(MotionGateConfig(), description="The motion gate.")
    gallery: GalleryConfig = Field(GalleryConfig(), description="Memory of identities.")


class VideoConfig(Section):
    """Decoding and encoding."""

    max_pixels: int = Field(
        3840 * 2160 * 4, ge=1024, le=1 << 30, description="Largest frame accepted, in pixels; larger ones are refused."
    )
    max_frames: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="Most frames of one video; longer ones are refused."
    )
    max_damaged_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the frames of a file that may be too damaged to be decoded; a file with more is refused "
        "at its end. Raise it for recordings over bad links; 0 refuses any damage.",
    )
    max_clock_jump_s: float = Field(
        10.0,
        gt=0,
        le=86400,
        description="Longest step forward in seconds that is a pause, in formats whose clock may be restarted within "
        "a file (MPEG-TS, MPEG-PS, Ogg). A longer one counts as one frame. Raise it for recordings with real pauses.",
    )
    image_folder_rate_hz: float = Field(
        30.0, gt=0, le=1000, description="Frame rate in Hz of an image folder without a seqinfo.ini."
    )
    crf: int = Field(23, ge=0, le=51, description="H.264 constant rate factor of annotated video; lower is better.")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = Field(
        "veryfast", description="H.264 speed preset of annotated video."
    )


class PipelineConfig(Section):
    """How frames move from the decoder to the detector."""

    chunk_size: int = Field(8, ge=1, le=64, description="Frames sent to the detector as one request.")
    window: int = Field(2, ge=1, le=16, description="Chunks of one video in flight at the detector.")


class LoggingConfig(Section):
    """Structured logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severity written.")
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for people.")
