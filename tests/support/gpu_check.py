"""Checks a machine with a GPU: `make check-gpu` runs the tests that need one, measures networks and pipeline, and
prints one JSON document. It needs no network and takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from service_checks import write_clip

import motserve
from motserve.config import Config, load_config
from motserve.detection import build_detector
from motserve.lab.compare.timing import Speed, measure_speed
from motserve.lab.scenes import SceneConfig, render
from motserve.models.provenance import describe_machine
from motserve.models.weights import resolve_weights
from motserve.reid import build_embedder

TESTS = Path(__file__).parents[1]
FRAMES = 64
BATCH = 16
CLIP_S = 8


def run_tests(limit_s: float) -> dict[str, Any]:
    """Run the tests that are marked `gpu`, and return their numbers and the names of those that failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        program = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={report}", str(TESTS)]
        try:
            subprocess.run(program, cwd=TESTS.parent, stdout=sys.stderr, check=False, timeout=limit_s)
        except subprocess.TimeoutExpired:
            return {"error": f"the tests took more than {limit_s:.0f} s"}
        if not report.exists():
            return {"error": "pytest wrote no report"}
        suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    broken = [
        case for case in suite.iter("testcase") if case.find("failure") is not None or case.find("error") is not None
    ]
    return {**counts, "failed": [f"{case.get('classname')}::{case.get('name')}" for case in broken]}


def measure(device: str, weights: list[str]) -> dict[str, Any]:
    """Measure detectors and embedder alone and in batches, in single and half precision, and the whole pipeline."""
    pictures = [item.frame.image for item in render(SceneConfig(seed=3, duration_s=FRAMES / 25, people=8))][:FRAMES]
    crops = np.stack([picture[20:276, 100:228] for picture in pictures])
    rows = []
    for half in (False, True) if device.startswith("cuda") else (False,):
        for name in weights:
            config = configured(device, half, name)
            detector = build_detector(config.detector, resolve_weights("detector", config), config.cache_dir)
            speed = measure_speed(detector.detect, pictures, BATCH)
            rows.append(row("detector", name, detector.backend, half, speed))
        config = configured(device, half, weights[0])
        embedder = build_embedder(config.reid, resolve_weights("reid", config), config.cache_dir)
        rows.append(row("embedder", "bundled", embedder.backend, half, measure_speed(embedder.embed, crops, BATCH)))
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "clip.mp4", CLIP_S, 3)
        rates = {name: frames_per_second(clip, configured(device, True, name)) for name in weights}
    return {"networks": rows, "pipeline_frames_per_s": rates}


def configured(device: str, half: bool, weights: str) -> Config:
    return load_config(
        [
            {
                "detector": {"device": device, "half": half, "weights": weights},
                "reid": {"device": device, "half": half, "weights": "bundled"},
                "disk": {"detections_cache_bytes": 0},
            }
        ]
    )


def row(role: str, weights: str, backend: str, half: bool, speed: Speed) -> dict[str, Any]:
    name = Path(weights).name
    numbers = {"one_ms": round(speed.median_ms, 3), f"per_s_in_batches_of_{BATCH}": round(speed.per_second, 1)}
    return {"role": role, "weights": name, "backend": backend, "half": half, **numbers}


def frames_per_second(clip: Path, config: Config) -> float:
    """Return the speed of `motserve.track` with identities; an untimed run loads the networks."""
    with motserve.track(clip, config=config) as run:
        run.run(progress=False)
        start = time.perf_counter()
        frames = sum(1 for _ in run.run(progress=False).frames)
        return round(frames / (time.perf_counter() - start), 1)


def main() -> int:
    """Read the arguments, check, and print the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="device of the measurements; on others no tests are run")
    parser.add_argument("--limit-s", type=float, default=200.0, help="most seconds of the tests")
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        print("error: PyTorch finds no CUDA device; see `motserve doctor`", file=sys.stderr)
        return 2
    data = os.environ.get("MOTSERVE_DATA")
    weights = ["bundled", *([str(Path(data) / "models" / "yolov8n.pt")] if data else [])]
    tests = run_tests(arguments.limit_s) if on_gpu else None
    document = {"machine": describe_machine(), "tests": tests, **measure(arguments.device, weights)}
    print(json.dumps(document, indent=2))
    return 0 if tests is None or not (tests.get("error") or tests["failed"]) else 1


if __name__ == "__main__":
    sys.exit(main())
