"""What the bundled weights learn from, and how it is put together."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from motserve.config.base import Section, Share
from motserve.config.paths import LocalPath
from training.rendered.config import PictureConfig


class SceneSource(Section):
    """Footage of one place."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="What it is called: a folder of that name.")
    path: LocalPath = Field(
        description="Folder of a MOTChallenge sequence, whose ground truth is taken, or a video, which is labelled; in "
        "the data folder."
    )
    every: int = Field(3, ge=1, le=1000, description="Every n-th frame is taken; those beside it look the same.")
    left_out: bool = Field(False, description="Whether a detector is trained without it and measured on it.")
    same: tuple[tuple[int, ...], ...] = Field((), description="IDs that the ground truth gave one person.")


class LabelConfig(Section):
    """How footage without ground truth is labelled."""

    least_confidence: float = Field(0.05, gt=0, le=1, description="Least confidence of a detection that is looked at.")
    sure_confidence: float = Field(0.7, gt=0, le=1, description="Confidence that a track reaches once, at the least.")
    least_frames: int = Field(10, ge=1, le=10_000, description="Frames that a track lasts, at the least.")
    bridged_s: float = Field(2.0, ge=0, le=60, description="Longest gap of a track in seconds that is filled.")
    image_size: int = Field(640, ge=64, le=4096, multiple_of=32, description="Input size of the detector, in pixels.")
    difference: int = Field(28, ge=1, le=255, description="Difference to the empty place that is somebody, of 255.")
    unlabelled: Share = Field(
        0.004, description="A frame of which a larger share moves without a label is not learned from."
    )


class CutConfig(Section):
    """Cutting people out of footage."""

    views: int = Field(24, ge=1, le=1000, description="Views of each person, at the most.")
    height: int = Field(320, ge=32, le=2048, description="A higher cut is made smaller to this many pixels.")
    least_height: int = Field(56, ge=16, le=2048, description="People lower than this are not cut out.")
    least_visibility: Share = Field(0.92, description="People more hidden than this are not cut out.")


class WindowConfig(Section):
    """Parts of frames, so that people come in all sizes."""

    least_height: float = Field(0.07, gt=0, le=2, description="Least height of a person as a share of the window's.")
    most_height: float = Field(1.1, gt=0, le=2, description="Largest height.")
    least_visibility: Share = Field(0.3, description="People of whom less can be seen are not labelled.")
    least_inside: Share = Field(0.25, description="People of whom less is inside the window are not labelled.")


class SetConfig(Section):
    """The pictures that a detector learns from."""

    train_pictures: int = Field(8000, ge=1, le=1_000_000, description="Pictures to learn from.")
    validation_pictures: int = Field(300, ge=1, le=100_000, description="Pictures of another seed, to watch it learn.")
    windows: Share = Field(0.5, description="Share that are parts of frames; the others are put together.")
    pictures: PictureConfig = Field(
        PictureConfig(photographed=0.75, photographed_places=0.75, most_things=5),
        description="What is put together; its longer side and its lens are those of the windows too.",
    )
    least_visibility: Share = Field(0.2, description="People in pictures put together that are labelled.")
    scene_places: Share = Field(0.4, description="Share of photographed places that are footage without its people.")


class CropSetConfig(Section):
    """The crops that an embedder learns from."""

    height: int = Field(128, ge=32, le=1024, description="Height of a crop in pixels.")
    width: int = Field(64, ge=16, le=1024, description="Width of a crop in pixels.")
    filmed_views: int = Field(40, ge=2, le=1000, description="Crops of each person in footage, at the most.")
    least_views: int = Field(4, ge=2, le=1000, description="Who was seen less often is left out.")
    recoloured: int = Field(600, ge=0, le=9000, description="People of footage in other clothes.")
    rendered: int = Field(400, ge=0, le=9000, description="Rendered people.")
    validation: int = Field(80, ge=2, le=9000, description="Other rendered people to measure on.")
    views: int = Field(16, ge=4, le=1000, description="Crops of each of those.")
    pictures: PictureConfig = Field(
        PictureConfig(
            per_place=2,
            most_people=4,
            empty=0.0,
            clutter=0.1,
            least_height=0.4,
            most_height=1.0,
            blurred=0.1,
            colourless=0.0,
            photographed_places=0.6,
            most_things=1,
        ),
        description="Pictures that the crops come from; `most_people` of them appear together.",
    )
    least_height: int = Field(40, ge=8, le=1024, description="Lower crops are left out, in pixels.")
    least_visibility: Share = Field(0.75, description="Crops that show less of a person are left out.")
    jitter: float = Field(
        0.05, ge=0, le=0.5, description="Standard deviation of a crop's edges, as a share of the box."
    )
    relit: Share = Field(0.2, description="Share that is seen in another light.")


class MaterialConfig(Section):
    """Everything that pictures and crops are made of."""

    seed: int = Field(2024, ge=0, le=2**31, description="Everything random follows from this number.")
    scenes: tuple[SceneSource, ...] = Field(min_length=1, description="Footage.")
    teacher: LocalPath = Field(
        Path("models/yolov8n.pt"), description="Detector that labels footage; in the data folder."
    )
    pictures: tuple[LocalPath, ...] = Field(
        (),
        description="Folders of pictures without people. Those with transparent parts are things, others places. "
        "Each folder is chosen equally often.",
    )
    most_side: int = Field(960, ge=64, le=4096, description="Larger pictures are made smaller to this longer side.")
    most_pictures: int = Field(160, ge=1, le=100_000, description="Pictures of one folder, at the most.")
    labels: LabelConfig = Field(LabelConfig(), description="Labelling.")
    cuts: CutConfig = Field(CutConfig(), description="Cutting out.")
    windows: WindowConfig = Field(WindowConfig(), description="Parts of frames.")
    detector: SetConfig = Field(SetConfig(), description="Pictures for the detector.")
    embedder: CropSetConfig = Field(CropSetConfig(), description="Crops for the embedder.")

    @model_validator(mode="after")
    def _distinct(self) -> MaterialConfig:
        names = [scene.name for scene in self.scenes]
        if len(set(names)) < len(names):
            raise ValueError(f"two scenes have one name: {', '.join(names)}")
        if len(self.scenes) == 1 and self.scenes[0].left_out:
            raise ValueError(f"nothing is left to learn from without the only scene, {names[0]}: add another one")
        return self
