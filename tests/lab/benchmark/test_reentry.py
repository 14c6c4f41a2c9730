from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from motserve.config import VideoConfig
from motserve.errors import InvalidData, NotFound
from motserve.lab.benchmark.reentry import (
    VIEWS,
    ReentryConfig,
    SimulatedDetectorConfig,
    find_reentry,
    read_people,
    simulate_detections,
    write_reentry,
)
from motserve.lab.evaluation.reid_data import read_ids
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.scenes import Cutout, Placement, SceneConfig, Stage, Truth, cutout_of
from motserve.lab.scenes.body import Pose
from motserve.lab.scenes.cutout import cut_out
from motserve.results import read_mot
from motserve.video import open_video

FAST = VideoConfig(preset="ultrafast")
SMALL = {"people": 2, "duration_s": 1, "rate_hz": 10, "width": 160, "height": 96, "far_height": 0.3, "near_height": 0.6}


def crop(colour: tuple[int, int, int] = (40, 40, 200)) -> np.ndarray:
    """A person in one colour in front of a noisy wall."""
    picture = np.random.default_rng(0).integers(150, 190, (128, 48, 3), np.uint8)
    cv2.ellipse(picture, (24, 66), (11, 58), 0, 0, 360, colour, cv2.FILLED)
    return picture


def write_crops(folder: Path, people: int = 3, views: int = VIEWS) -> Path:
    folder.mkdir(parents=True)
    for person in range(1, people + 1):
        for camera in (1, 2):
            for view in range(views):
                colour = (20 * person, 10 * view, 250)
                cv2.imwrite(str(folder / f"{person:04}_c{camera}s1_{view + 1:06}_01.png"), crop(colour))
    return folder


def silent(name: str, done: int, total: int | None) -> None:
    pass


def write(
    folder: Path, config: ReentryConfig, crops: Path | None = None, people: frozenset[int] | None = None
) -> object:
    return write_reentry(config, FAST, folder, crops, people, b"key", silent)


# --- cut out people ---------------------------------------------------------------------------------------------------


def test_a_person_is_cut_out_of_a_crop() -> None:
    pixels = cut_out(crop())
    assert pixels.shape == (384, 144, 4)
    assert pixels.dtype == np.uint8
    coverage = pixels[:, :, 3]
    assert coverage[198, 72] == 255, "the body is not in the mask"
    assert coverage[[2, 2, 380, 380], [2, 140, 2, 140]].max() == 0, "a corner is in the mask"
    assert np.abs(pixels[198, 72, :3].astype(int) - (40, 40, 200)).max() < 12
    assert not pixels[coverage == 0, :3].any()
    np.testing.assert_array_equal(pixels, cut_out(crop()))


def test_a_cutout_has_its_position_and_the_view_of_its_heading() -> None:
    colours = [(30 * view, 255 - 30 * view, 128) for view in range(VIEWS)]
    person = cutout_of([crop(colour) for colour in colours], height=1.8)
    scene = SceneConfig(pillars=0, furniture=0, noise=0, shake=0, shake_degrees=0)
    stage = Stage(scene)
    depth = (stage.camera.near + stage.camera.far) / 2
    foot_x, foot_y, scale = stage.camera.project(0, depth)
    for view in (0, 2, 4, 6):
        shot = stage.shoot([Placement(person, 0, depth, Pose(view * np.pi / 4, 0, 0))])
        left, _, right, bottom = shot.boxes[0]
        assert (left + right) / 2 == pytest.approx(foot_x, abs=2)
        below = 4 / 128 * 1.8 * scale  # the crop extends below the person
        assert bottom == pytest.approx(foot_y - below, abs=3)
        assert shot.boxes[0, 3] - shot.boxes[0, 1] == pytest.approx(1.8 * scale * 116 / 128, rel=0.08)
        assert shot.visibility[0] == 1
        green = shot.image[int(foot_y - 0.9 * scale), int(foot_x), 1]
        others = [abs(int(green) - colour[1]) for colour in colours]
        assert int(np.argmin(others)) == view


def test_a_cutout_is_occluded_by_a_nearer_person() -> None:
    stage = Stage(SceneConfig(pillars=0, furniture=0))
    person = Cutout(1.8, (cut_out(crop()),))
    near, far = stage.camera.near, stage.camera.near + 0.5
    shot = stage.shoot([Placement(person, 0, far, Pose(0, 0, 0)), Placement(person, 0, near, Pose(0, 0, 0))])
    assert shot.visibility[1] == 1
    assert shot.visibility[0] < 0.3


# --- scenes -----------------------------------------------------------------------------------------------------------


def test_scenes_are_sequences_with_ground_truth_video_and_detections(tmp_path: Path) -> None:
    config = ReentryConfig(drawn=1, real=1, scene=SceneConfig(**SMALL))
    scenes = write(tmp_path / "scenes", config, write_crops(tmp_path / "crops"))
    assert scenes.names == ("drawn-01", "real-01")  # type: ignore[attr-defined]
    truths = find_truth(scenes.truth, scenes.names)  # type: ignore[attr-defined]
    for name, truth in truths.items():
        assert (truth.frames, truth.rate_hz, truth.size) == (10, 10, (160, 96))
        with open_video(truth.path.parents[1] / f"{name}.mp4", FAST) as source:
            assert len(list(source.frames())) == 10
        table = read_mot(truth.path)
        assert set(table.ids.tolist()) <= {1, 2}
        detections = read_mot(scenes.detections / f"{name}.txt")  # type: ignore[attr-defined]
        assert (detections.ids == -1).all()
        assert (detections.boxes >= -0.01).all()
        assert (detections.boxes <= np.array([160, 96, 160, 96]) + 0.01).all()
    assert not list(tmp_path.glob(".scenes.*")), "a temporary folder remains"


def test_scenes_are_reused_only_with_the_same_key(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    assert find_reentry(folder, b"key") is None
    written = write(folder, ReentryConfig(drawn=1, real=0, scene=SceneConfig(**SMALL)))
    assert find_reentry(folder, b"key") == written
    assert find_reentry(folder, b"another") is None


def test_the_same_seed_gives_the_same_scenes(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        scene = SceneConfig(**{**SMALL, "duration_s": 3})
        write(tmp_path / name, ReentryConfig(seed=seed, drawn=1, real=0, scene=scene))
        texts.append((tmp_path / name / "detections" / "drawn-01.txt").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_a_folder_with_other_files_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine.txt").write_text("a note")
    with pytest.raises(InvalidData, match="no scenes of this benchmark"):
        write(tmp_path / "scenes", ReentryConfig(drawn=1, real=0, scene=SceneConfig(**SMALL)))
    assert (tmp_path / "scenes" / "mine.txt").read_text() == "a note"


def test_missing_or_too_few_crops_are_refused(tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops")
    scene = SceneConfig(**{**SMALL, "people": 4})
    with pytest.raises(InvalidData, match="camera 1: 3 people have 8 views, a scene needs 4"):
        write(tmp_path / "s", ReentryConfig(drawn=0, real=1, scene=scene), crops)
    with pytest.raises(InvalidData, match="the configuration has no scenes"):
        write(tmp_path / "s", ReentryConfig(drawn=0, real=1))
    with pytest.raises(NotFound, match="no folder"):
        read_people(tmp_path / "nowhere")
    few = write_crops(tmp_path / "few", views=3)
    with pytest.raises(InvalidData, match="holds no person with 8 views"):
        write(tmp_path / "s", ReentryConfig(drawn=0, real=1, scene=SceneConfig(**SMALL)), few)
    assert not (tmp_path / "s").exists()


def test_only_the_selected_people_are_read(tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops")
    (tmp_path / "ids.txt").write_text("001\n3\n")
    people = read_people(crops, read_ids(tmp_path / "ids.txt"))
    assert {camera: sorted(views) for camera, views in people.items()} == {1: [1, 3], 2: [1, 3]}
    assert [len(views) for views in people[1].values()] == [VIEWS, VIEWS]
    (tmp_path / "bad.txt").write_text("one\n")
    with pytest.raises(InvalidData, match=r"bad\.txt must hold one ID per line"):
        read_ids(tmp_path / "bad.txt")
    with pytest.raises(NotFound, match="no file"):
        read_ids(tmp_path / "none.txt")


def test_the_simulated_detector_detects_visible_people() -> None:
    boxes = np.array([[10, 10, 30, 60], [-20, 10, 10, 60], [100, 10, 120, 60], [-40, 0, -10, 50]], np.float32)
    truth = Truth(np.arange(1, 5), boxes, np.array([1, 0.6, 0.1, 0.9], np.float32))
    detector = SimulatedDetectorConfig(miss_rate=0, jitter=0, min_visibility=0.3, min_score=0.4, max_score=0.9)
    detections = simulate_detections(truth, (110, 50), detector, np.random.default_rng(0))
    np.testing.assert_allclose(detections[:, :4], [[10, 10, 30, 50], [0, 10, 10, 50]])
    np.testing.assert_allclose(detections[:, 4], [0.9, 0.7], atol=1e-6)
    none_detected = simulate_detections(
        truth, (110, 50), detector.model_copy(update={"miss_rate": 0.999999}), np.random.default_rng(0)
    )
    assert len(none_detected) == 0


def test_the_example_file_has_the_default_values() -> None:
    text = Path("configs/benchmark/reentry.yaml").read_text()
    assert ReentryConfig.model_validate(yaml.safe_load(text)) == ReentryConfig()
