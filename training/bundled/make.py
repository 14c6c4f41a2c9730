"""Trains the bundled weights from random weights, step by step.

A later call reuses finished steps and resumes an interrupted training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from motserve.config import Config, change_config
from motserve.config.loading.yaml_files import layer_settings, read_settings
from motserve.files.atomic import write_json
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.experiments.cache import open_cache
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.pictures import for_scoring, pictures_of, score_pictures
from motserve.lab.experiments.sequences import load_sequences
from motserve.models.checksums import checksum
from motserve.models.registry import Card, read_card, write_card
from training.bundled.agreement import compare_with_teacher
from training.bundled.backdrops import Pictures, prepare_pictures
from training.bundled.config import MaterialConfig
from training.bundled.crops import write_crops
from training.bundled.detector_set import read_overlays, write_set
from training.bundled.material import Material, prepare_scene
from training.bundled.photographs import prepare_photographs
from training.detector import command as detector
from training.detector.config import DetectorTraining
from training.detector.train import WEIGHTS
from training.dir_cache import make_once
from training.job import Job, run_job
from training.job_config import JobConfig
from training.nanodet.command import write_nanodet
from training.nanodet.network import ARCHITECTURE
from training.progress import Say, quiet
from training.reid import command as reid
from training.reid.config import ReidTrainingConfig
from training.score_shift import shift_scores

Settings = TypeVar("Settings", bound=JobConfig)

FREE: Final = "free"
"""Name of the published detector, from which the others start, and of the folder of what is free for commerce."""

ALL: Final = "all"
"""Name of the detector trained on all sources."""

SCORES: Final = "scores.json"
"""File with the scores of a detector on sources that were left out, by source, beside its weights."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths and settings of the training of bundled weights.

    Attributes:
        data: Folder of the footage and of the detector that labels it.
        configs: Folder of training settings; those of bundled weights are in its `bundled`.
        work: Folder for all results.
        settings: Material to train on.
        say: Prints a line for the user.
    """

    data: Path
    configs: Path
    work: Path
    settings: MaterialConfig
    say: Say = quiet

    @property
    def teacher(self) -> Path:
        """Weights of the detector that labels footage."""
        return self.data / self.settings.teacher

    def model(self, name: str) -> Path:
        """Return the folder of a finished model."""
        return self.work / "models" / name


def open_workspace(data: Path, configs: Path, work: Path) -> Workspace:
    """Read the settings.

    Raises:
        InvalidConfig: They cannot be read or are not valid.
    """
    settings = read_settings(configs / "bundled" / "material.yaml", MaterialConfig)
    return Workspace(data, configs, work, settings)


def make_detector(workspace: Workspace) -> None:
    """Train from the free detector, once without each group of left-out sources and once with all; score each.

    Raises:
        MotserveError: Data are missing or a training failed.
    """
    groups = workspace.settings.groups
    make_free_detector(workspace)
    for group in groups:
        _train_detector(workspace, f"without-{group}", [group])
        _score(workspace, f"without-{group}", [group])
    _train_detector(workspace, ALL)
    _score(workspace, ALL, groups)


def make_free_detector(workspace: Workspace) -> None:
    """Convert the published detector, which has learned from none of the sources, and score it on all of them.

    Raises:
        MotserveError: A file is missing or not that detector.
    """
    settings, folder = workspace.settings, workspace.model(FREE)
    weights = folder / WEIGHTS

    def convert() -> None:
        workspace.say(f"{FREE}: converting {settings.base.path}")
        materials = (*_scenes(workspace, settings.groups).values(), *_photographs(workspace, settings.groups).values())
        pictures = [file for material in materials for file in material.frames]
        chosen = pictures[:: max(1, len(pictures) // settings.base.pictures)]
        write_nanodet(settings.base.path, chosen, weights, settings.base.shift)
        write_card(folder, Card("detector", WEIGHTS, checksum(weights), ARCHITECTURE))

    make_once(folder, settings.base.model_dump_json(), convert)
    _score(workspace, FREE, settings.groups)


def free_workspace(workspace: Workspace) -> Workspace:
    """Return the workspace of weights that are free for commercial use: other sources, labelled by another detector."""
    settings = workspace.settings
    changes: dict[str, Any] = {
        "scenes": tuple(scene for scene in settings.scenes if scene.free),
        "photographs": tuple(source for source in settings.photographs if source.free),
        "teacher": (workspace.model(FREE) / WEIGHTS).resolve(),
        "labels": settings.labels.model_copy(update={"sure_confidence": settings.free_confidence}),
    }
    return replace(workspace, work=workspace.work / FREE, settings=settings.model_copy(update=changes))


def make_free_embedder(workspace: Workspace) -> None:
    """Train an embedder on crops that are free for commercial use.

    Raises:
        MotserveError: Data are missing or the training failed.
    """
    make_free_detector(workspace)
    make_embedder(free_workspace(workspace))


def make_embedder(workspace: Workspace) -> None:
    """Train on crops.

    Raises:
        MotserveError: Data are missing or the training failed.
    """

    def prepare() -> Job[ReidTrainingConfig]:
        scenes, photographs = _scenes(workspace), _photographs(workspace)
        overlays = read_overlays(workspace.settings, list(scenes.values()), _pictures(workspace))
        crops = write_crops(workspace.settings, scenes, overlays, workspace.work / "crops", photographs)
        files = [workspace.configs / "reid.yaml", workspace.configs / "bundled" / "embedder.yaml"]
        test = {"root": str(workspace.data / "reid_images" / "PKU-Reid-74"), "protocol": "cross-camera"}
        name = f"bundled-embedder-{FREE}" if workspace.work.name == FREE else "bundled-embedder"
        changes: dict[str, Any] = {"name": name, "data": {"root": str(crops)}, "cross": [test]}
        return reid.make_job(layer_settings(files, changes, ReidTrainingConfig))

    _run(workspace, "embedder", prepare)


def _train_detector(workspace: Workspace, name: str, without: Sequence[str] = ()) -> None:
    """Train on all sources but those of some groups, and shift the scores."""

    def prepare() -> Job[DetectorTraining]:
        scenes, photographs = _scenes(workspace, without), _photographs(workspace, without)
        folder = workspace.work / f"pictures-{name}"
        data = write_set(workspace.settings, scenes, _pictures(workspace), folder, photographs)
        files = [workspace.configs / "detector.yaml", workspace.configs / "bundled" / "detector.yaml"]
        changes = {
            "name": f"bundled-detector-{name}",
            "data": str(data),
            "init": str(workspace.model(FREE) / WEIGHTS),
        }
        training = layer_settings(files, changes, DetectorTraining)
        if training.teacher is not None:
            teacher = training.teacher.model_copy(update={"weights": str(workspace.teacher)})
            training = training.model_copy(update={"teacher": teacher})
        return detector.make_job(training)

    trained = _run(workspace, f"{name}-trained", prepare)
    card, folder = read_card(trained), workspace.model(name)

    def shift() -> None:
        shift_scores(trained / card.weights, folder / WEIGHTS, workspace.settings.shift)
        write_card(folder, replace(card, weights=WEIGHTS, sha256=checksum(folder / WEIGHTS)))

    make_once(folder, f"{card.sha256} {workspace.settings.shift}", shift)


def _run(workspace: Workspace, name: str, prepare: Callable[[], Job[Settings]]) -> Path:
    """Prepare and run a job unless it is finished; return the folder of its model."""
    folder = workspace.model(name)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        workspace.say(f"{name}: preparing the data")
        run_job(prepare(), folder, workspace.say)
    return folder


def _scenes(workspace: Workspace, without: Sequence[str] = ()) -> Mapping[str, Material]:
    place = workspace.work / "material"
    return {
        scene.name: prepare_scene(scene, workspace.data, workspace.settings, place / scene.name)
        for scene in workspace.settings.scenes
        if scene.left_out not in without
    }


def _photographs(workspace: Workspace, without: Sequence[str] = ()) -> Mapping[str, Material]:
    place = workspace.work / "material"
    return {
        source.name: prepare_photographs(source, workspace.data, workspace.settings, place / source.name)
        for source in workspace.settings.photographs
        if source.left_out not in without
    }


def _pictures(workspace: Workspace) -> Pictures:
    return prepare_pictures(workspace.settings, workspace.teacher, workspace.work / "material" / "pictures")


def _score(workspace: Workspace, name: str, groups: Sequence[str]) -> None:
    """Score a detector on the sources of some groups; write the scores beside its weights.

    Scenes are scored like `motserve evaluate detection`, photographs by their agreement with the teacher
    at a larger size, beside that of the teacher at the usual size.
    """
    file = workspace.model(name) / SCORES
    if file.exists():
        return
    weights = workspace.model(name) / read_card(workspace.model(name)).weights
    config = for_scoring(change_config(Config(), {"detector": {"weights": [str(weights)]}}))
    models, cache = Models(config), open_cache(config)
    scores: dict[str, Any] = {}
    for scene in workspace.settings.scenes:
        if scene.left_out in groups:
            (sequence,) = load_sequences(find_truth(workspace.data / scene.path), models, cache)
            scores[scene.name] = score_pictures([pictures_of(sequence)], config)[sequence.name].as_dict()
    for source in workspace.settings.photographs:
        if source.left_out in groups:
            photographs = _photographs(workspace)[source.name]
            scores[source.name] = compare_with_teacher(photographs.frames, weights, workspace.teacher)
    write_json(file, scores)
    listed = (
        f"{source} mAP50 {one['mAP50']:.3f}"
        if "mAP50" in one
        else f"{source} recall {one['recall']:.3f}, of the teacher {one['teacher_recall']:.3f}"
        for source, one in scores.items()
    )
    workspace.say(f"{name}: {'; '.join(listed)}")
