"""Photographs without ground truth, labelled by several passes of a detector."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from torchvision.ops import box_iou

from motserve.errors import NotFound
from motserve.files.folders import visible_files
from motserve.lab.scenes.cutout import cut_out
from motserve.reid.crops import whole_pixels
from motserve.types import Detections, FloatArray, Image
from training.bundled.agreement import Detect, people_detector
from training.bundled.backdrops import SUFFIXES, on_grey, read_picture
from training.bundled.config import MaterialConfig, PhotographLabelConfig, PhotographSource
from training.bundled.cutting import shrunk
from training.bundled.footage import Labels, occluded_by
from training.bundled.material import (
    FRAMES,
    PEOPLE,
    QUALITY,
    Material,
    people_to_cut,
    read_labels,
    write_labels,
)
from training.dir_cache import make_once
from training.overlays import Cut

logger = logging.getLogger("motserve.training")

_MIN_ASPECT, _MAX_ASPECT = 1.6, 4.5
"""Height by width of people who stand or walk."""

_PAD: Final = 40  # pixels of grey around a cutout


def prepare_photographs(source: PhotographSource, data: Path, settings: MaterialConfig, folder: Path) -> Material:
    """Label photographs; the output of an earlier call with the same settings is reused.

    Args:
        source: The photographs.
        data: Folder that their path is relative to.
        settings: Teacher and labelling.
        folder: Output folder; its content is replaced.

    Returns:
        The photographs with labels and cutouts, each of a person of its own, without a background.

    Raises:
        NotFound: There is no such folder.
        WeightsUnavailable: The teacher's weights are not available.
    """
    labelling = settings.photograph_labels
    parts = (labelling.model_dump(mode="json"), settings.cuts.model_dump(mode="json"))
    stamp = json.dumps([str(source.path), settings.max_side, *parts])
    make_once(folder, stamp, lambda: _label(source, data, settings, folder))
    files, labels = read_labels(folder)
    cuts = sorted((folder / PEOPLE).glob("*.png"))
    return Material(folder, files, labels, {number: (cut,) for number, cut in enumerate(cuts)})


def _label(source: PhotographSource, data: Path, settings: MaterialConfig, folder: Path) -> None:
    place = data / source.path
    if not place.is_dir():
        raise NotFound(f"there is no folder of photographs {place}; remove it from `photographs`")
    for name in (FRAMES, PEOPLE):
        (folder / name).mkdir()
    labelling = settings.photograph_labels
    detect = augmented_detector(data / settings.teacher, labelling)
    recognise = people_detector(data / settings.teacher, min(labelling.image_sizes), labelling.sure_confidence)
    labels: dict[str, Labels] = {}
    files = visible_files(place, SUFFIXES, below=True)
    for number, file in enumerate(files):
        picture = read_picture(file, settings.max_side)
        if picture is None or picture.shape[2] != len("BGR"):
            continue
        stem = f"{number:06d}"
        labels[stem] = label_people(detect(picture), labelling)
        cv2.imwrite(str(folder / FRAMES / f"{stem}.jpg"), picture, QUALITY)
        for row, cut in cut_people(picture, labels[stem], recognise, settings):
            cv2.imwrite(str(folder / PEOPLE / f"{stem}_{row:03d}.png"), cut)
    write_labels(folder, labels)
    people = sum(len(one.boxes) for one in labels.values())
    logger.info("photographs", extra={"photographs": source.name, "pictures": len(files), "people": people})


def cut_people(
    picture: Image, labels: Labels, recognise: Detect, settings: MaterialConfig
) -> Iterator[tuple[int, Cut]]:
    """Cut the upright, unoccluded people out of a photograph.

    Without a second picture of the same place, only the usual position of people in their boxes is known. Therefore a
    cutout is used only if the teacher recognises it on grey.

    Args:
        picture: The photograph.
        labels: Its labels.
        recognise: The teacher; returns people of sufficient confidence.
        settings: Least height and visibility of a person.

    Yields:
        The row of the person and the cutout.
    """
    height, width = picture.shape[:2]
    for row in people_to_cut(labels, width, height, settings.cuts):
        x1, y1, x2, y2 = whole_pixels(labels.boxes[row][None], height, width)[0].tolist()
        if not _MIN_ASPECT <= (y2 - y1) / max(x2 - x1, 1) <= _MAX_ASPECT:  # not upright
            continue
        cut = shrunk(cut_out(picture[y1:y2, x1:x2]), settings.cuts.height)
        if len(recognise(np.pad(on_grey(cut), ((_PAD, _PAD), (_PAD, _PAD), (0, 0)), constant_values=127))):
            yield row, cut


def label_people(detections: Detections, settings: PhotographLabelConfig) -> Labels:
    """Return sure detections as people and unsure ones as `others`, which are neither people nor background."""
    sure = detections.scores >= settings.sure_confidence
    boxes = detections.boxes[sure]
    ids = np.arange(len(boxes), dtype=np.int64)
    return Labels(ids, boxes, np.asarray(1 - occluded_by(boxes), np.float32), detections.boxes[~sure])


def augmented_detector(teacher: Path, settings: PhotographLabelConfig) -> Detect:
    """Return a function that detects people at several sizes, also in the mirrored picture, and fuses the detections.

    Args:
        teacher: Weights of the detector.
        settings: Sizes and confidences.
    """
    detectors = [people_detector(teacher, size, settings.min_confidence) for size in settings.image_sizes]

    def detect(picture: Image) -> Detections:
        passes: list[Detections] = []
        mirrored = np.ascontiguousarray(picture[:, ::-1])
        for run in detectors:
            upright, turned = run(picture), run(mirrored)
            boxes = turned.boxes.copy()
            boxes[:, [0, 2]] = picture.shape[1] - turned.boxes[:, [2, 0]]
            passes += [upright, Detections(boxes, turned.scores, turned.classes)]
        return fuse_detections(passes, settings.merge_iou, settings.min_confidence)

    return detect


def fuse_detections(passes: Sequence[Detections], min_iou: float, min_confidence: float) -> Detections:
    """Fuse the detections of several passes over one picture, after weighted boxes fusion (Solovyev et al., 2021).

    Args:
        passes: Detections of each pass.
        min_iou: IoU from which two boxes are the same person.
        min_confidence: Merged people below it are dropped.

    Returns:
        For each person the mean box, weighted by confidence, and the mean confidence over all passes, 0 where a pass
        missed the person; the most confident first.
    """
    boxes = np.concatenate([one.boxes for one in passes])
    scores = np.concatenate([one.scores for one in passes])
    tensor = torch.from_numpy(boxes)
    left = np.argsort(-scores, kind="stable")
    people: list[tuple[float, FloatArray]] = []
    while len(left):
        same = box_iou(tensor[left[:1]], tensor[left])[0].numpy() >= min_iou
        same[0] = True
        rows, left = left[same], left[~same]
        weights = scores[rows] / scores[rows].sum()
        # one pass may find a person twice
        people.append((min(float(scores[rows].sum()) / len(passes), 1.0), weights @ boxes[rows]))
    people = sorted((one for one in people if one[0] >= min_confidence), key=lambda one: -one[0])
    if not people:
        return Detections.empty()
    merged = np.array([box for _, box in people], np.float32)
    return Detections(merged, np.array([score for score, _ in people], np.float32), np.zeros(len(people), np.int64))
