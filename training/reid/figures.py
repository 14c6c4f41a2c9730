"""Draws figures of an embedder's results: ranked matches, CMC curve and distance histograms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from motserve.lab.evaluation.reid_data import CropTable, read_image
from motserve.lab.evaluation.reid_names import DISTRACTOR
from motserve.lab.evaluation.retrieval import cosine_rows, key_columns, order_keys, right_ranks
from motserve.lab.experiments.crops import CropSet
from motserve.types import BoolArray, FloatArray, IntArray
from training.reid.config import PictureConfig

_RIGHT, _WRONG, _QUERY = "#2a9d3a", "#d02f2f", "#333333"
_FRAME: Final = 4.0  # points
_CROP_INCHES: Final = (0.9, 1.8)
_LARGEST: Final = 2.0  # cosine distance


def draw_pictures(
    query: FloatArray, gallery: FloatArray, crops: CropSet, settings: PictureConfig, batch: int, folder: Path
) -> None:
    """Write `matches.png`, `cmc.png` and `distances.png`.

    Args:
        query: `(q, d)` float32 unit vectors.
        gallery: `(g, d)` float32 unit vectors.
        crops: The crops of both.
        settings: Number of queries, matches, ranks and bins.
        batch: Queries compared with the gallery at a time.
        folder: Output folder; made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ranks = list(right_ranks(cosine_rows(query, gallery, batch), crops.query, crops.gallery))
    scored = np.flatnonzero([len(right) > 0 for right in ranks])
    _draw_cmc(np.array([ranks[row][0] for row in scored]), settings.ranks, folder / "cmc.png")
    # evenly spaced, so that not all are of the first person
    shown = scored[np.linspace(0, len(scored) - 1, min(settings.queries, len(scored))).round().astype(int)]
    _draw_matches(query[shown], gallery, crops.query, shown, crops.gallery, settings.matches, folder / "matches.png")
    _draw_distances(*_distances(query, gallery, crops, settings.bins, batch), folder / "distances.png")


def _draw_cmc(first: IntArray, ranks: int, file: Path) -> None:
    """Draw the share of queries that have a right crop among the nearest k (cumulative matching characteristic)."""
    figure, axes = _figure(6, 4)
    rank_axis = np.arange(1, ranks + 1)
    axes.plot(rank_axis, [100 * np.mean(first <= rank) for rank in rank_axis], marker=".", color=_QUERY)
    axes.set(xlabel="rank k", ylabel="queries matched within k, %", ylim=(0, 102), xlim=(0, ranks + 1))
    axes.set_title(f"CMC of {len(first)} queries, Rank-1 {100 * np.mean(first <= 1):.1f} %")
    axes.grid(alpha=0.3)
    _save(figure, file)


def _draw_matches(
    query: FloatArray,
    gallery: FloatArray,
    queries: CropTable,
    rows: IntArray,
    table: CropTable,
    matches: int,
    file: Path,
) -> None:
    """Draw queries, each with its nearest crops, right ones framed in green and wrong ones in red."""
    width, height = _CROP_INCHES
    figure = Figure(figsize=(width * (matches + 1), height * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), matches + 1, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, row, (distances,) in zip(grid, rows, cosine_rows(query, gallery, 1), strict=True):
        person, camera = queries.identities[row], queries.cameras[row]
        _show(line[0], queries.paths[row], _QUERY, f"person {person}\ncamera {camera}")
        ranked = key_columns(np.sort(order_keys(distances[None])[0]))
        in_ranking = ~((table.identities[ranked] == person) & (table.cameras[ranked] == camera))
        for axes, match in zip(line[1:], ranked[in_ranking], strict=False):
            right = table.identities[match] == person
            name = table.identities[match] if table.identities[match] > DISTRACTOR else "distractor"
            _show(axes, table.paths[match], _RIGHT if right else _WRONG, f"{name}\n{distances[match]:.2f}")
    _save(figure, file)


def _draw_distances(same: IntArray, other: IntArray, largest: float, file: Path) -> None:
    figure, axes = _figure(6, 4)
    edges = np.linspace(0, largest, len(same) + 1)
    for counts, colour, name in ((same, _RIGHT, "same person, other camera"), (other, _WRONG, "different people")):
        share = 100 * counts / max(counts.sum(), 1)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.5, label=f"{name}: {int(counts.sum()):,} pairs")
    axes.set(xlabel="cosine distance", ylabel="pairs, %", xlim=(0, largest))
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, file)


def _distances(
    query: FloatArray, gallery: FloatArray, crops: CropSet, bins: int, batch: int
) -> tuple[IntArray, IntArray, float]:
    """Count pairs by distance, of the same person across cameras and of different people; also return the largest.

    The distances may not fit into memory, so they are computed twice.
    """
    largest = max(float(block.max()) for block in cosine_rows(query, gallery, batch)) or _LARGEST
    same, other = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    for block, right, left_out in _pairs(query, gallery, crops, batch):
        for counts, chosen in ((same, right), (other, ~right & ~left_out)):
            counts += np.histogram(block[chosen], bins, (0, largest))[0]
    return same, other, largest


def _pairs(
    query: FloatArray, gallery: FloatArray, crops: CropSet, batch: int
) -> Iterator[tuple[FloatArray, BoolArray, BoolArray]]:
    done = 0
    for block in cosine_rows(query, gallery, batch):
        rows = slice(done, done + len(block))
        done += len(block)
        people = crops.query.identities[rows, None]
        same_person = (people == crops.gallery.identities) & (people > DISTRACTOR)
        same_camera = crops.query.cameras[rows, None] == crops.gallery.cameras
        yield block, same_person & ~same_camera, same_person & same_camera


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _show(axes: Axes, path: Path, colour: str, title: str) -> None:
    axes.set_axis_on()
    axes.imshow(read_image(path)[..., ::-1], aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=7)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=_FRAME)


def _save(figure: Figure, file: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(file)
