"""Labelled embeddings for calibration: crops of a data set, or people in videos with ground truth."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motserve.config import Config
from motserve.errors import InvalidData
from motserve.lab.evaluation import Rules, rules_for
from motserve.lab.evaluation.benchmarks import PEDESTRIAN
from motserve.lab.evaluation.reid_data import CropTable, read_labelled
from motserve.lab.evaluation.sequences import TruthFile
from motserve.lab.experiments.appearance import Appearance
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.crops import embed_crops
from motserve.lab.experiments.detections import Progress
from motserve.lab.experiments.footage import Footage, find_video
from motserve.lab.experiments.models import Models
from motserve.models.provenance import describe_files
from motserve.pipeline.video_tracker import EmbedFrameBoxes
from motserve.reid.crops import trusted
from motserve.results import MotTable, read_mot
from motserve.types import BoolArray, FloatArray, IntArray, Tracks

_FALLBACK_RATE_HZ = 30.0


@dataclass(frozen=True, slots=True)
class LabelledEmbeddings:
    """Embeddings with known identities.

    Attributes:
        embeddings: `(n, d)` float32, unit vectors, in order of time if there is one.
        identities: `(n,)` int64.
        cameras: `(n,)` int64, camera or video of each.
        data: Checksums of their source, for the provenance of a result.
    """

    embeddings: FloatArray
    identities: IntArray
    cameras: IntArray
    data: dict[str, Any]


def embeddings_in_folder(
    root: Path, people: frozenset[int] | None, models: Models, cache: Cache, progress: Progress
) -> LabelledEmbeddings:
    """Embed the crops of a data set.

    Args:
        root: Folder of crops named as in Market-1501.
        people: IDs of the people to use; None for all.
        models: The embedder.
        cache: Cache of embeddings.
        progress: Called with the progress of embedding.

    Raises:
        NotFound: There is no such folder.
        InvalidData: It holds no crops of these people, or one cannot be read.
    """
    table = read_labelled(root)
    selected = table.identities > 0
    if people is not None:
        selected &= np.isin(table.identities, list(people))
    rows = np.flatnonzero(selected)
    if not len(rows):
        raise InvalidData(f"{root} holds no crops of the selected people")
    table = CropTable(tuple(table.paths[row] for row in rows), table.identities[rows], table.cameras[rows])
    described = describe_files(table.paths, root)
    embeddings = embed_crops(table, described["sha256"], models, cache, root.name, progress)
    return LabelledEmbeddings(embeddings, table.identities, table.cameras, {root.name: described})


def embeddings_in_videos(
    truths: Mapping[str, TruthFile], videos: Path | None, config: Config, cache: Cache, progress: Progress
) -> LabelledEmbeddings:
    """Embed the people of videos at intervals, where they are clearly visible by the ground truth.

    Args:
        truths: Sequences.
        videos: Folder of the videos, if they are not beside the ground truth.
        config: `evaluation.calibration.every_s` and `reid` are used.
        cache: Cache of embeddings.
        progress: Called with the progress of embedding.

    Raises:
        NotFound: The video of a sequence is missing.
        InvalidData: No person in them is clearly visible.
    """
    embeddings, identities, cameras = [], [], []
    data: dict[str, Any] = {}
    for camera, (name, truth) in enumerate(truths.items()):
        footage = Footage(find_video(truth, videos), config.video, truth)
        table = read_mot(truth.path)
        people = table.select(_counted(table, rules_for(name, table)))
        with footage.open() as source:
            rate_hz = truth.rate_hz or source.info.rate_hz or _FALLBACK_RATE_HZ
        step = max(1, round(rate_hz * config.evaluation.calibration.every_s))
        sampled = range(0, int(people.frames.max(initial=-1)) + 1, step)
        with Appearance(footage, Models(config), cache) as appearance:
            for frame in sampled:
                present = _tracks(people.select(people.frames == frame))
                visible = present.select(np.flatnonzero(trusted(present, config.reid.trust, footage.size)))
                if len(visible):
                    embeddings.append(asyncio.run(_embed(appearance.at(frame), visible.boxes)))
                    identities.append(visible.ids)
                    cameras.append(np.full(len(visible), camera))
                progress(name, frame + 1, sampled.stop)
        data[name] = {"ground_truth": describe_files([truth.path]), "video": footage.sha256}
    if not embeddings:
        raise InvalidData("no person in the videos is visible well enough to be embedded (reid.trust)")
    return LabelledEmbeddings(np.concatenate(embeddings), np.concatenate(identities), np.concatenate(cameras), data)


async def _embed(embed: EmbedFrameBoxes, boxes: FloatArray) -> FloatArray:
    return await embed(boxes)


def _counted(table: MotTable, rules: Rules) -> BoolArray:
    return (table.scores > 0) & ((table.classes == PEDESTRIAN) if rules.classes else True)


def _tracks(people: MotTable) -> Tracks:
    n = len(people)
    # visibility stands in for confidence: an occluded person is not clearly visible
    scores = np.where(people.visibility < 0, 1.0, people.visibility).astype(np.float32)
    return Tracks(people.ids, people.boxes, scores, np.zeros(n, np.int64), np.arange(n))
