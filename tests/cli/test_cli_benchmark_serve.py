"""`motserve benchmark serve`: what it refuses, and one run with one video."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_checks import Motserve, assert_error, assert_usage, document
from rich.console import Console
from service_checks import write_clip

from motserve.cli.benchmark.serve_tables import tables
from motserve.lab.benchmark.serving.entrants import SERVICE
from motserve.lab.benchmark.serving.rows import ModelRow, ProcessRow, ServingRow
from motserve.serving.addresses import free_port

PROGRAM = (sys.executable, "-c", "from motserve.cli import app; app()")
SMALL = ("--set", "detector.weights=bundled", "--set", "detector.image_size=320", "--set", "reid.weights=bundled")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--metrics-url", "http://a/metrics"), "needs no address of metrics"),
        (("--url", "http://a", "--simulate-detector-ms", 5), "has its own networks"),
        (("--url", "http://a", "--batch", 5), "has its own settings"),
        (("--simulate-detector-ms", 5, "--peers", "ultralytics"), "other packages are not measured"),
        (("--simulate-embedder-ms", 5), "give --simulate-detector-ms too"),
        (("--sessions", "1,many"), "is not a list of numbers"),
        (("--sessions", "1000"), "at most 256 videos at once"),
    ],
)
def test_options_without_effect_are_refused(motserve: Motserve, options: tuple[object, ...], said: str) -> None:
    assert_usage(motserve("benchmark", "serve", "clip.mp4", *options), said)


def test_a_clip_that_cannot_be_read_is_named(motserve: Motserve) -> None:
    assert_error(motserve("benchmark", "serve", "none.mp4"), 3, "there is no video at none.mp4")
    Path("text.mp4").write_text("no video")
    assert_error(motserve("benchmark", "serve", "text.mp4"), 3, "text.mp4")


def test_an_unknown_peer_is_named_with_those_that_are_known(motserve: Motserve, clip: Path) -> None:
    result = motserve("benchmark", "serve", clip, "--frames", 2, "--peers", "nobody")
    assert_error(result, 2, "unknown peer nobody; known are ultralytics, ultralytics-openvino")


def test_a_service_that_does_not_answer_is_named_before_anything_is_loaded(motserve: Motserve, clip: Path) -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    assert_error(motserve("benchmark", "serve", clip, "--frames", 2, "--url", url), 1, f"no service answers at {url}")


def test_the_tables_show_what_is_known() -> None:
    speed = (30.0, [30.0], None, 33.0, 40.0, 50.0, 1.5, 2.0)
    alone = ServingRow("loop", 1, 90, *speed, [ProcessRow("process", 1, 20.0, 700.0)], [], {})
    model = ModelRow("detector", 180.0, 12.0, 0.75, 3.0, 9.0, None)
    served = ServingRow(
        SERVICE, 2, 180, *speed, [ProcessRow("sessions", 2, 5.0, 300.0)], [model], {"decode": 1.25}, limit_share=0.5
    )
    console = Console(width=150, record=True)
    for table in tables([alone, served]):
        console.print(table)
    text = console.export_text()
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "loop 30.0 - 33.0 40.0 50.0 1.50 2.00 -" in lines
    assert "service, 2 videos 30.0 - 33.0 40.0 50.0 1.50 2.00 50.0" in lines
    assert "service, 2 videos, detector 180 12.0 75 3.0 9.0 -" in lines
    assert "service, 2 videos 1.25" in lines
    assert "service, 2 videos - 5.00" in lines


@pytest.mark.slow
@pytest.mark.parametrize("simulated", [False, True])
def test_one_video_with_and_without_the_service(clip: Path, tmp_path: Path, simulated: bool) -> None:
    options = ["--simulate-detector-ms=4", "--batch=8"] if simulated else ["--peers=none"]
    result = subprocess.run(
        [*PROGRAM, "benchmark", "serve", clip, *SMALL, "--frames=40", "--sessions=1", "--rounds=1", *options,
         "--json=out.json", "--plot=plot.png"],
        cwd=tmp_path, env={**os.environ, "COLUMNS": "150"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = {row["name"]: row for row in document(tmp_path / "out.json")}
    assert list(rows) == (["service"] if simulated else ["loop", "loop-8", "pipeline", "service"])
    for row in rows.values():
        assert row["frames"] == 40
        assert row["frames_per_s"] > 0
        assert row["processes"]
    service = rows["service"]
    assert {use["kind"] for use in service["processes"]} >= {"driver", "detector", "ingress", "sessions", "proxy"}
    assert service["models"][0]["images"] == 40
    assert service["stages_ms"].keys() >= {"decode", "detect", "track"}
    assert (service["limit_share"] is not None) == simulated
    stamp = document(tmp_path / "out.provenance.json")
    assert stamp["frames"] == 40
    assert (stamp["simulation"] is not None) == simulated
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "service, 1 video" in result.stdout
