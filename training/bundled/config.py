"""Settings of the training data of the bundled weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, model_validator

from motserve.config.base import Section, Share
from motserve.config.paths import LocalPath
from training.rendered.config import PictureConfig

_NAME: Final = r"^[A-Za-z0-9][\w.-]*$"


LEFT_OUT: Final = Field(
    None,
    pattern=_NAME,
    description="Name of the group of sources that one detector is trained without, to score it on them. Null: none.",
)

FREE: Final = Field(False, description="Whether its licence allows commercial use.")


class SceneSource(Section):
    """Footage of one static camera."""

    name: str = Field(pattern=_NAME, description="Name of the scene and of its folder.")
    path: LocalPath = Field(
        description="Folder of a MOTChallenge sequence, whose ground truth is used, or a video, which the teacher "
        "labels; in the data folder."
    )
    every: int = Field(3, ge=1, le=1000, description="Use every n-th frame; neighbouring frames are nearly equal.")
    left_out: str | None = LEFT_OUT
    free: bool = FREE
    same: tuple[tuple[int, ...], ...] = Field((), description="Groups of ground-truth IDs of the same person.")


class BaseConfig(Section):
    """The published detector that training starts from."""

    path: LocalPath = Field(
        Path("data/nanodet/package/models/nanodet.json"), description="NanoDet-g as a graph model of TensorFlow.js."
    )
    pictures: int = Field(400, ge=1, le=100_000, description="Pictures for the statistics of batch normalisation.")
    shift: float = Field(
        0.0,
        ge=-5,
        le=5,
        description="Summand of the logits of its scores. Raised, the same threshold gives more people and more false "
        "detections.",
    )


class LabelConfig(Section):
    """Labelling of footage without ground truth."""

    min_confidence: float = Field(0.05, gt=0, le=1, description="Minimum confidence of a detection.")
    sure_confidence: float = Field(0.7, gt=0, le=1, description="Confidence that a track must reach at least once.")
    min_frames: int = Field(10, ge=1, le=10_000, description="Minimum length of a track in frames.")
    bridged_s: float = Field(2.0, ge=0, le=60, description="Longest gap of a track in seconds to interpolate.")
    image_size: int = Field(640, ge=64, le=4096, multiple_of=32, description="Input size of the detector, in pixels.")
    difference: int = Field(
        28, ge=1, le=255, description="Minimum difference of a person to the background, on a scale of 255."
    )
    unlabelled: Share = Field(0.004, description="Frames with a larger share of unlabelled foreground are not used.")


class PhotographSource(Section):
    """A folder of single photographs of many places, which the teacher labels."""

    name: str = Field(pattern=_NAME, description="Name of the source and of its folder.")
    path: LocalPath = Field(description="Folder of pictures, in the data folder.")
    left_out: str | None = LEFT_OUT
    free: bool = FREE


class PhotographLabelConfig(Section):
    """Labelling of photographs by several passes of the teacher."""

    image_sizes: tuple[int, ...] = Field(
        (640, 1280),
        min_length=1,
        description="Input sizes of the passes in pixels; each is done mirrored too.",
    )
    min_confidence: float = Field(0.1, gt=0, le=1, description="Minimum confidence of a detection.")
    sure_confidence: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Mean confidence over all passes from which a detection is labelled. Raised, fewer people are "
        "labelled, with fewer errors.",
    )
    merge_iou: float = Field(0.6, gt=0, le=1, description="IoU from which detections of two passes are one person.")


class CutConfig(Section):
    """Cutouts of people from footage."""

    views: int = Field(24, ge=1, le=1000, description="Maximum number of views of each person.")
    height: int = Field(320, ge=32, le=2048, description="Higher cutouts are scaled down to this many pixels.")
    min_height: int = Field(56, ge=16, le=2048, description="Minimum height of a person in pixels.")
    min_visibility: Share = Field(0.92, description="Minimum visibility of a person.")


class WindowConfig(Section):
    """Windows of frames, scaled so that people have all sizes."""

    min_height: float = Field(0.07, gt=0, le=2, description="Minimum height of a person as a share of the window's.")
    max_height: float = Field(1.1, gt=0, le=2, description="Maximum height of a person as a share of the window's.")
    min_visibility: Share = Field(0.3, description="Minimum visibility of a labelled person.")
    min_inside: Share = Field(0.25, description="Minimum share of a labelled person inside the window.")


class SetConfig(Section):
    """The training pictures of the detector."""

    train_pictures: int = Field(8000, ge=1, le=1_000_000, description="Training pictures.")
    validation_pictures: int = Field(300, ge=1, le=100_000, description="Validation pictures, of another seed.")
    windows: Share = Field(
        0.5, description="Share of pictures that are windows of frames and photographs; the others are composed."
    )
    photographs: Share = Field(0.5, description="Share of the windows that are parts of photographs, if there are any.")
    photograph_backdrops: Share = Field(
        0.4, description="Share of photographed backdrops that are photographs without people, if there are any."
    )
    peopled: Share = Field(0.75, description="Share of the windows of photographs in which people are labelled.")
    pictures: PictureConfig = Field(
        PictureConfig(photographed=0.75, photographed_backdrops=0.75, max_things=5),
        description="Composed pictures; longer side and lens effects apply to windows too.",
    )
    min_visibility: Share = Field(0.2, description="Minimum visibility of a labelled person in composed pictures.")
    scene_backdrops: Share = Field(0.3, description="Share of photographed backdrops that are backgrounds of footage.")


class CropSetConfig(Section):
    """The training crops of the embedder."""

    height: int = Field(128, ge=32, le=1024, description="Height of a crop in pixels.")
    width: int = Field(64, ge=16, le=1024, description="Width of a crop in pixels.")
    filmed_views: int = Field(40, ge=2, le=1000, description="Maximum number of crops of each person in footage.")
    min_views: int = Field(
        4, ge=2, le=1000, description="Minimum number of crops of a person; people with fewer are not used."
    )
    recoloured: int = Field(600, ge=0, le=9000, description="Number of people of footage with recoloured clothes.")
    photographed: int = Field(500, ge=0, le=9000, description="Maximum number of people of photographs.")
    rendered: int = Field(400, ge=0, le=9000, description="Number of rendered people.")
    validation: int = Field(80, ge=2, le=9000, description="Number of other rendered people for validation.")
    views: int = Field(16, ge=4, le=1000, description="Crops of each recoloured or rendered person.")
    pictures: PictureConfig = Field(
        PictureConfig(
            per_backdrop=2,
            max_people=4,
            empty=0.0,
            clutter=0.1,
            min_height=0.4,
            max_height=1.0,
            blurred=0.1,
            colourless=0.0,
            photographed_backdrops=0.6,
            max_things=1,
        ),
        description="Pictures from which the crops are cut, each with up to `max_people` people.",
    )
    min_height: int = Field(40, ge=8, le=1024, description="Minimum height of a crop in pixels.")
    min_visibility: Share = Field(0.75, description="Minimum visibility of the person in a crop.")
    jitter: float = Field(
        0.05, ge=0, le=0.5, description="Standard deviation of a crop's edges, as a share of the box."
    )
    color_jitter: Share = Field(0.2, description="Share of crops with colour jitter.")


class MaterialConfig(Section):
    """Material and settings of training pictures and crops."""

    seed: int = Field(2024, ge=0, le=2**31, description="Seed of all random numbers.")
    scenes: tuple[SceneSource, ...] = Field(min_length=1, description="Scenes of footage.")
    photographs: tuple[PhotographSource, ...] = Field((), description="Photographs of many places.")
    teacher: LocalPath = Field(
        Path("models/yolov8n.pt"), description="Detector that labels footage; in the data folder."
    )
    base: BaseConfig = Field(BaseConfig(), description="The detector that training starts from.")
    shift: float = Field(
        0.0,
        ge=-5,
        le=5,
        description="Summand of the logits of the trained detectors' scores. Raised, the same threshold gives more "
        "people and more false detections.",
    )
    pictures: tuple[LocalPath, ...] = Field(
        (),
        description="Folders of pictures without people. Pictures with transparent parts are things, others "
        "backdrops. Folders are drawn equally often.",
    )
    max_side: int = Field(960, ge=64, le=4096, description="Larger pictures are scaled down to this longer side.")
    max_pictures: int = Field(160, ge=1, le=100_000, description="Maximum number of pictures of one folder.")
    labels: LabelConfig = Field(LabelConfig(), description="Labelling.")
    photograph_labels: PhotographLabelConfig = Field(PhotographLabelConfig(), description="Labelling of photographs.")
    cuts: CutConfig = Field(CutConfig(), description="Cutouts of people.")
    windows: WindowConfig = Field(WindowConfig(), description="Windows of frames.")
    detector: SetConfig = Field(SetConfig(), description="Training pictures of the detector.")
    embedder: CropSetConfig = Field(CropSetConfig(), description="Training crops of the embedder.")
    free_confidence: float = Field(
        0.5, gt=0, le=1, description="`labels.sure_confidence` where the published detector labels the footage."
    )

    @model_validator(mode="after")
    def _shares(self) -> MaterialConfig:
        if self.detector.scene_backdrops + self.detector.photograph_backdrops > 1:
            raise ValueError("scene_backdrops and photograph_backdrops are shares of one whole: their sum is over 1")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> MaterialConfig:
        names = [*(scene.name for scene in self.scenes), *(source.name for source in self.photographs)]
        if len(set(names)) < len(names):
            raise ValueError(f"two scenes have one name: {', '.join(names)}")
        for group in self.groups:
            if all(scene.left_out == group for scene in self.scenes):
                raise ValueError(f"no scene is left without those of {group}: add another one")
        return self

    @property
    def groups(self) -> list[str]:
        """Names of the groups of sources that are left out together."""
        named = [*(scene.left_out for scene in self.scenes), *(source.left_out for source in self.photographs)]
        return sorted({name for name in named if name is not None})
