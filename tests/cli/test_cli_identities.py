"""The commands that measure and calibrate re-identification, called from the command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_checks import Motserve, assert_error, assert_usage, document, files_in

SCENES = """
drawn: 1
real: 1
scene: {people: 2, duration_s: 2, rate_hz: 5, width: 192, height: 112, far_height: 0.3, near_height: 0.6, returning: 1,
  absence_min_s: 0.1, absence_max_s: 0.2}
"""


@pytest.fixture
def embedder(untrained_embedder: Path) -> list[str]:
    """Settings for a small untrained embedder, to which all people are similar."""
    options = (f"weights={untrained_embedder}", "device=cpu", "trust.min_height=1", "trust.max_overlap=1")
    return [part for option in options for part in ("--set", f"reid.{option}")]


@pytest.fixture
def crops(motserve: Motserve) -> None:
    """Folder `crops`: five people in distinct colours, eight views from each of two cameras; `ids.txt` lists three."""
    Path("crops/query").mkdir(parents=True)
    random = np.random.default_rng(0)
    for person in range(1, 6):
        for camera in (1, 2):
            for view in range(8):
                picture = random.integers(100, 130, (128, 48, 3), np.uint8)
                cv2.ellipse(picture, (24, 66), (11, 58), 0, 0, 360, (50 * person, 250 - 50 * person, 90), cv2.FILLED)
                cv2.imwrite(f"crops/query/{person:04}_c{camera}s1_{view + 1:06}_01.png", picture)
    Path("ids.txt").write_text("1\n2\n3\n")
    Path("scenes.yaml").write_text(SCENES)


@pytest.mark.usefixtures("crops")
def test_reentry_is_measured_on_scenes_that_are_rendered_once(motserve: Motserve, embedder: list[str]) -> None:
    call = ("benchmark", "reentry", "--crops", "crops", "--scenes", "scenes.yaml", "--output", "out", *embedder)
    result = motserve(*call, "--policies", "off,always")
    assert result.exit_code == 0, result.output
    assert {"plot.png", "results.json", "table.md"} <= set(files_in("out"))
    found = document("out/results.json")
    assert [(row["policy"], row["sequence"]) for row in found["rows"]] == [
        (policy, name) for policy in ("off", "always") for name in ("drawn-01", "real-01", "mean", "combined")
    ]
    assert all(row["false_links"] <= row["links"] for row in found["rows"])
    assert [row["embeddings"] > 0 for row in found["rows"]] == [False] * 4 + [True] * 4
    assert found["provenance"]["scenes"]["scene"]["people"] == 2
    clip = Path("out/scenes/sequences/real-01/real-01.mp4")
    written = clip.stat().st_mtime_ns
    assert motserve(*call, "--policies", "off").exit_code == 0
    assert clip.stat().st_mtime_ns == written, "rendered again though nothing changed"
    assert motserve(*call, "--policies", "off", "--people", "ids.txt").exit_code == 0
    assert clip.stat().st_mtime_ns != written, "other people were requested"


@pytest.mark.usefixtures("crops")
def test_a_real_detector_can_run_on_the_scenes(
    motserve: Motserve, embedder: list[str], untrained_detector: Path
) -> None:
    settings = (f"weights={untrained_detector}", "image_size=96", "max_detections=6", "device=cpu")
    detector = [part for setting in settings for part in ("--set", f"detector.{setting}")]
    call = ("benchmark", "reentry", "--scenes", "scenes.yaml", "--policies", "off", "--detector", "--output", "out")
    result = motserve(*call, *embedder, *detector)
    assert result.exit_code == 0, result.output
    found = document("out/results.json")
    assert [row["sequence"] for row in found["rows"]] == ["drawn-01"]
    assert found["provenance"]["weights"]["detector"]["name"] == untrained_detector.name


@pytest.mark.usefixtures("crops")
def test_invalid_options_of_reentry_are_refused(motserve: Motserve) -> None:
    reentry = ("benchmark", "reentry", "--output", "out")
    assert_error(motserve(*reentry, "--policies", "sometimes"), 2, "reid.policy")
    assert_usage(motserve(*reentry, "--policies", ","), "name at least one policy")
    assert_error(motserve(*reentry, "--crops", "nowhere"), 3, "nowhere")
    Path("bad.yaml").write_text("people: 3\n")
    assert_error(motserve(*reentry, "--scenes", "bad.yaml"), 2, "bad.yaml", "people")
    assert_error(motserve(*reentry, "--scenes", "none.yaml"), 2, "none.yaml")
    few = "drawn: 0\nscene: {people: 9}\n"
    Path("few.yaml").write_text(few)
    said = ("5 people have 8 views", "needs 9")
    assert_error(motserve(*reentry, "--crops", "crops", "--scenes", "few.yaml"), 3, *said)
    assert not Path("out").exists() or not files_in("out")


@pytest.mark.usefixtures("crops")
def test_an_embedder_is_calibrated_on_crops(motserve: Motserve, embedder: list[str]) -> None:
    few = ("--set", "evaluation.calibration.trials=200", "--set", "evaluation.calibration.gallery_identities=2")
    result = motserve("calibrate", "reid", "--root", "crops", *embedder, *few, "--json", "new/found.json")
    assert result.exit_code == 0, result.output
    assert "reid.max_distance" in result.stdout
    assert "reid.gallery.contradiction" in result.stdout
    found = document("new/found.json")
    assert list(found["thresholds"]) == ["0.005", "0.01", "0.02", "0.05"]
    assert 0 <= found["contradiction"] <= 2
    assert found["provenance"]["data"]["crops"]["files"] == 80
    only = motserve("calibrate", "reid", "--root", "crops", "--people", "ids.txt", *embedder, *few, "--json", "b.json")
    assert only.exit_code == 0, only.output
    assert document("b.json")["provenance"]["data"]["crops"]["files"] == 48


@pytest.mark.usefixtures("crops")
def test_an_embedder_is_calibrated_on_videos(motserve: Motserve, embedder: list[str]) -> None:
    scenes = SCENES.replace("duration_s: 2", "duration_s: 6").replace("people: 2", "people: 4")
    Path("scenes.yaml").write_text(scenes)
    rendered = motserve("benchmark", "reentry", "--scenes", "scenes.yaml", "--policies", "off", "--output", "out")
    assert rendered.exit_code == 0, rendered.output
    few = ("--set", "evaluation.calibration.trials=50", "--set", "evaluation.calibration.gallery_identities=1")
    result = motserve("calibrate", "reid", "--gt", "out/scenes/sequences", *embedder, *few, "--json", "found.json")
    assert result.exit_code == 0, result.output
    assert set(document("found.json")["provenance"]["data"]) == {"drawn-01"}


@pytest.mark.usefixtures("crops")
def test_invalid_options_of_calibration_are_refused(motserve: Motserve, embedder: list[str]) -> None:
    calibrate = ("calibrate", "reid", *embedder)
    assert_usage(motserve(*calibrate), "give a folder of crops, or ground truth")
    assert_usage(motserve(*calibrate, "--root", "crops", "--gt", "crops"), "give a folder of crops, or ground truth")
    assert_error(motserve(*calibrate, "--root", "nowhere"), 3, "nowhere")
    assert_error(motserve(*calibrate, "--root", "crops"), 3, "more than 10 people", "gallery_identities")
    Path("ids.txt").write_text("77\n")
    assert_error(motserve(*calibrate, "--root", "crops", "--people", "ids.txt"), 3, "no crops of the selected people")


@pytest.mark.usefixtures("crops")
def test_policies_side_by_side(motserve: Motserve, embedder: list[str]) -> None:
    rendered = motserve("benchmark", "reentry", "--scenes", "scenes.yaml", "--policies", "off", "--output", "out")
    assert rendered.exit_code == 0, rendered.output
    data = ("--gt", "out/scenes/sequences", "--detections", "out/scenes/detections")
    call = ("compare", "identities", *data, "--policies", "off,interval,always", "--output", "compared")
    result = motserve(*call, *embedder, "--set", "regrouping={}")
    assert result.exit_code == 0, result.output
    rows = document("compared/results.json")["rows"]
    assert [row["policy"] for row in rows] == ["off", "interval", "always"]
    embeddings = [row["embeddings"] for row in rows]
    assert embeddings[0] == 0 < embeddings[1] < embeddings[2]
    assert_error(motserve("compare", "identities", *data, "--policies", "never", *embedder), 2, "reid.policy")
