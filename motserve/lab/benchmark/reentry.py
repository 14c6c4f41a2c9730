"""Scenes in which people leave and return, with ground truth, to measure re-identification.

Drawn people need no licence and can be of any number. Real people are cut out of the crops of a Re-ID data set, so an
embedder gets realistic images. Both walk the same paths before the same painted backdrops.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pydantic import Field

from motserve.config import VideoConfig
from motserve.config.base import Section
from motserve.errors import InvalidData, NotFound
from motserve.files.atomic import replacing
from motserve.files.folders import visible_files
from motserve.lab.evaluation.reid_data import read_image
from motserve.lab.evaluation.reid_names import parse_reid_name
from motserve.lab.scenes import Cutout, RenderedFrame, SceneConfig, Truth, cutout_of, ground_truth_rows, render
from motserve.types import FloatArray, Image
from motserve.video import VideoWriter
from motserve.video.images.image_header import IMAGE_SUFFIXES

VIEWS = 8
"""Number of views of each person, evenly spaced around them, that a scene with real people needs."""

_FRONT_VIEW = 6  # index of the front view among the eight views by name; in view 0 the person walks to the right
_SEQUENCES, _DETECTIONS, _KEY = "sequences", "detections", "scenes.json"
_MEAN_HEIGHT_M, _HEIGHT_SPREAD_M = 1.7, 0.07


class SimulatedDetectorConfig(Section):
    """The simulated detector, so that the benchmark does not measure a real one."""

    min_visibility: float = Field(
        0.3, ge=0, le=1, description="Smallest visible share of a body that is detected; raising it adds misses."
    )
    miss_rate: float = Field(0.03, ge=0, lt=1, description="Share of the visible people that are missed at random.")
    jitter: float = Field(
        0.01, ge=0, le=1, description="Standard deviation of a box edge, as a fraction of the box height."
    )
    min_score: float = Field(0.35, ge=0, le=1, description="Score of a person of whom almost nothing is visible.")
    max_score: float = Field(0.95, ge=0, le=1, description="Score of a fully visible person.")


class ReentryConfig(Section):
    """The scenes: first those with drawn people, then, where crops are given, those with real people."""

    seed: int = Field(0, ge=0, description="Everything random follows from this number.")
    drawn: int = Field(2, ge=0, le=100, description="Number of scenes with drawn people.")
    real: int = Field(4, ge=0, le=100, description="Number of scenes with people cut out of crops.")
    scene: SceneConfig = Field(
        SceneConfig(
            people=10,
            returning=0.8,
            absence_min_s=2,
            absence_max_s=20,
            duration_s=60,
            rate_hz=10,
            width=960,
            height=540,
            far_height=0.3,
            near_height=0.5,
        ),
        description="Settings of each scene; its seed is not used.",
    )
    detector: SimulatedDetectorConfig = Field(SimulatedDetectorConfig(), description="The simulated detector.")


@dataclass(frozen=True, slots=True)
class Reentry:
    """Paths of the written scenes.

    Attributes:
        truth: Folder of `<scene>/gt/gt.txt`, `<scene>/seqinfo.ini` and `<scene>/<scene>.mp4`.
        detections: Folder of `<scene>.txt`.
        names: Names of the scenes.
    """

    truth: Path
    detections: Path
    names: tuple[str, ...]


Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Callback of progress: name of the active scene, frames done, total frames."""


def find_reentry(folder: Path, key: bytes) -> Reentry | None:
    """Return the scenes in a folder if they are complete and have the same key, else None."""
    try:
        if (folder / _KEY).read_bytes() != key:
            return None
    except FileNotFoundError:
        return None
    names = sorted(file.stem for file in (folder / _DETECTIONS).glob("*.txt"))
    return Reentry(folder / _SEQUENCES, folder / _DETECTIONS, tuple(names))


def write_reentry(
    config: ReentryConfig,
    video: VideoConfig,
    folder: Path,
    crops: Path | None,
    people: frozenset[int] | None,
    key: bytes,
    progress: Progress,
) -> Reentry:
    """Render the scenes as MOTChallenge sequences, with the detections of a simulated detector.

    Args:
        config: The scenes.
        video: Quality of the videos.
        folder: Folder to write; scenes already there are replaced.
        crops: Folder of crops named as in Market-1501, eight views of each person by each camera; None for drawn
            people alone.
        people: IDs of the people to use; None for all.
        key: Identifies the settings; `find_reentry` compares it.
        progress: Called after each frame.

    Returns:
        The paths.

    Raises:
        NotFound: There is no folder of crops.
        InvalidData: Too few people have eight views, or the folder holds something else.
    """
    cameras = read_people(crops, people) if crops else {}
    scenes: dict[str, tuple[SceneConfig, Sequence[Cutout] | None]] = {}
    for number in range(config.drawn):
        scenes[f"drawn-{number + 1:02}"] = _scene(config, number), None
    if crops and config.real and not cameras:
        raise InvalidData(f"{crops} holds no person with {VIEWS} views from one camera")
    for number in range(config.real if crops else 0):
        camera = sorted(cameras)[number % len(cameras)]
        rng = np.random.default_rng([config.seed, number])
        cast = _cast(cameras[camera], config.scene.people, f"{crops}, camera {camera}", rng)
        scenes[f"real-{number + 1:02}"] = _scene(config, config.drawn + number), cast
    if not scenes:
        raise InvalidData("the configuration has no scenes; set drawn, or give crops")
    if folder.exists() and not (folder / _KEY).is_file():
        raise InvalidData(f"{folder} exists and holds no scenes of this benchmark; choose another --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as parent:
        work = Path(parent) / folder.name
        (work / _DETECTIONS).mkdir(parents=True)
        for index, (name, (scene, performers)) in enumerate(scenes.items()):
            rng = np.random.default_rng([config.seed, index, 1])
            _write_scene(name, scene, performers, config.detector, video, work, rng, progress)
        (work / _KEY).write_bytes(key)
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)
    return Reentry(folder / _SEQUENCES, folder / _DETECTIONS, tuple(sorted(scenes)))


def read_people(folder: Path, only: frozenset[int] | None = None) -> dict[int, dict[int, list[Path]]]:
    """Return the eight views of each person by each camera, in order of their names.

    Args:
        folder: Crops named as in Market-1501, in it or in its subfolders.
        only: IDs of the people to use; None for all.

    Returns:
        Files by camera, then by person; people without exactly eight views are left out.

    Raises:
        NotFound: There is no such folder.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    views: dict[int, dict[int, list[Path]]] = {}
    for file in sorted(visible_files(folder, IMAGE_SUFFIXES, below=True), key=lambda path: path.name):
        named = parse_reid_name(file.name)
        if named is not None and named[0] > 0 and (only is None or named[0] in only):
            views.setdefault(named[1], {}).setdefault(named[0], []).append(file)
    complete = {
        camera: {person: files for person, files in people.items() if len(files) == VIEWS}
        for camera, people in views.items()
    }
    return {camera: people for camera, people in complete.items() if people}


def simulate_detections(
    truth: Truth, size: tuple[int, int], config: SimulatedDetectorConfig, rng: np.random.Generator
) -> FloatArray:
    """Return the detections of the simulated detector in a frame.

    Args:
        truth: Ground truth of the frame.
        size: Width and height of the frame in pixels.
        config: Settings of the detector.
        rng: Source of randomness.

    Returns:
        `(n, 5)` float32: xyxy in pixels within the frame, and the score.
    """
    height = (truth.boxes[:, 3] - truth.boxes[:, 1])[:, None]
    boxes = truth.boxes + rng.normal(0, config.jitter, truth.boxes.shape) * height
    boxes = np.clip(boxes, 0, [*size, *size])
    is_detected = (truth.visibility >= config.min_visibility) & (rng.random(len(truth)) >= config.miss_rate)
    is_detected &= (boxes[:, 2:] - boxes[:, :2] >= 2).all(axis=1)
    scores = config.min_score + (config.max_score - config.min_score) * truth.visibility
    return np.column_stack([boxes, scores])[is_detected].astype(np.float32)


def _scene(config: ReentryConfig, number: int) -> SceneConfig:
    seed = int(np.random.default_rng([config.seed, number, 2]).integers(2**31))
    return config.scene.model_copy(update={"seed": seed})


def _cast(people: Mapping[int, list[Path]], count: int, where: str, rng: np.random.Generator) -> list[Cutout]:
    if len(people) < count:
        raise InvalidData(
            f"{where}: {len(people)} people have {VIEWS} views, a scene needs {count}; lower scene.people"
        )
    chosen = rng.choice(sorted(people), count, replace=False).tolist()
    heights = np.clip(rng.normal(_MEAN_HEIGHT_M, _HEIGHT_SPREAD_M, count), 1.5, 1.95).tolist()
    return [cutout_of(_read_views(people[person]), height) for person, height in zip(chosen, heights, strict=True)]


def _read_views(files: Sequence[Path]) -> list[Image]:
    """Read the views in the order of `Cutout.views`, beginning with the front."""
    return [read_image(files[(_FRONT_VIEW + view) % VIEWS]) for view in range(VIEWS)]


def _write_scene(
    name: str,
    scene: SceneConfig,
    cast: Sequence[Cutout] | None,
    detector: SimulatedDetectorConfig,
    video: VideoConfig,
    folder: Path,
    rng: np.random.Generator,
    progress: Progress,
) -> None:
    home = folder / _SEQUENCES / name
    (home / "gt").mkdir(parents=True, exist_ok=True)
    size = (scene.width, scene.height)
    truth: list[str] = []
    detections: list[str] = []
    with VideoWriter(home / f"{name}.mp4", *size, video, scene.rate_hz) as writer:
        for rendered in render(scene, cast):
            writer.write(rendered.frame.image, rendered.frame.timestamp)
            truth.extend(ground_truth_rows([rendered]))
            detections.extend(_rows(rendered, size, detector, rng))
            progress(name, rendered.frame.index + 1, scene.frames)
    info = (
        f"[Sequence]\nname={name}\nframeRate={scene.rate_hz:g}\nseqLength={scene.frames}\n"
        f"imWidth={scene.width}\nimHeight={scene.height}\n"
    )
    for target, text in (
        (home / "gt" / "gt.txt", "\n".join(chain(truth, [""]))),
        (home / "seqinfo.ini", info),
        (folder / _DETECTIONS / f"{name}.txt", "\n".join(chain(detections, [""]))),
    ):
        with replacing(target) as partial:
            partial.write_text(text)


def _rows(
    rendered: RenderedFrame, size: tuple[int, int], detector: SimulatedDetectorConfig, rng: np.random.Generator
) -> list[str]:
    return [
        f"{rendered.frame.index + 1},-1,{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f}"
        for x1, y1, x2, y2, score in simulate_detections(rendered.truth, size, detector, rng).tolist()
    ]
