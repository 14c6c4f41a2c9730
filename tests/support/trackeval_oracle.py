"""TrackEval run from its folder layout, with its own file reading and benchmark rules."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from trackeval import metrics
from trackeval.datasets import MotChallenge2DBox

from motserve.lab.evaluation import Benchmark

FIELDS = {
    "HOTA": ("HOTA", "DetA", "AssA", "LocA"),
    "CLEAR": ("MOTA", "MOTP", "IDSW", "Frag", "CLR_FP", "CLR_FN", "MT", "ML"),
    "Identity": ("IDF1", "IDP", "IDR"),
}
RENAMED = {"CLR_FP": "FP", "CLR_FN": "FN"}


def trackeval_scores(
    folder: Path, files: Mapping[str, tuple[Path, Path]], lengths: Mapping[str, int], benchmark: Benchmark
) -> dict[str, dict[str, float]]:
    """Score `{sequence: (ground truth, results)}` in a scratch folder; the combined scores are named `combined`."""
    for sequence, (truth, results) in files.items():
        (folder / "gt" / sequence / "gt").mkdir(parents=True)
        shutil.copy(truth, folder / "gt" / sequence / "gt" / "gt.txt")
        (folder / "trackers" / "ours" / "data").mkdir(parents=True, exist_ok=True)
        shutil.copy(results, folder / "trackers" / "ours" / "data" / f"{sequence}.txt")
    dataset = MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "gt"),
            "TRACKERS_FOLDER": str(folder / "trackers"),
            "BENCHMARK": benchmark.upper(),
            "SEQ_INFO": dict(lengths),
            "SKIP_SPLIT_FOL": True,
            "PRINT_CONFIG": False,
        }
    )
    quiet = {"PRINT_CONFIG": False, "THRESHOLD": 0.5}
    engines = {"HOTA": metrics.HOTA(), "CLEAR": metrics.CLEAR(quiet), "Identity": metrics.Identity(quiet)}
    raw: dict[str, dict[str, dict]] = {name: {} for name in engines}
    for sequence in files:
        data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("ours", sequence), "pedestrian")
        for name, engine in engines.items():
            raw[name][sequence] = engine.eval_sequence(data)
    for name, engine in engines.items():
        raw[name]["combined"] = engine.combine_sequences({key: raw[name][key] for key in files})
    return {
        sequence: {
            RENAMED.get(field, field): float(np.mean(raw[name][sequence][field]))
            for name, wanted in FIELDS.items()
            for field in wanted
        }
        for sequence in (*files, "combined")
    }
