from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
import yaml
from nanodet_files import nanodet_weights, write_tfjs
from pictures import read_picture
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import motserve.models.bundled
from motserve.config.loading.yaml_files import merge, read_settings
from motserve.errors import InvalidConfig, InvalidData, NotFound
from motserve.lab.scenes import SceneConfig, Shot, ground_truth_rows, render
from motserve.models.checksums import checksum
from motserve.models.registry import Card, Scores, write_card
from training.bundled import command
from training.bundled.backdrops import Pictures, prepare_pictures
from training.bundled.background import estimate_background, unlabelled_share
from training.bundled.config import (
    BaseConfig,
    CropSetConfig,
    LabelConfig,
    MaterialConfig,
    PhotographSource,
    SceneSource,
    SetConfig,
)
from training.bundled.crops import write_crops
from training.bundled.cutting import cut_person
from training.bundled.detector_set import read_overlays, write_set
from training.bundled.footage import Labels, occluded_by, open_scene
from training.bundled.make import Workspace, free_workspace, make_detector, make_embedder, make_free_embedder
from training.bundled.material import Material, prepare_scene, read_cut
from training.bundled.ship import detector_metrics, ship
from training.bundled.windows import cut_window
from training.color_jitter import jitter_colors
from training.overlays import (
    Dye,
    Dyes,
    Overlays,
    draw_backdrop,
    draw_dye,
    draw_person,
    dress_person,
    dye_clothes,
    foreshorten,
)
from training.rendered.command import labels_of, write_dataset
from training.rendered.config import PictureConfig, RenderedPictures
from training.rendered.lens import distort, film
from training.rendered.pictures import pictures
from training.score_shift import shift_scores

CONFIGS = Path(__file__).parents[2] / "configs" / "training"
TEACHER = Path(motserve.models.bundled.__file__).parent / "detector.safetensors"
TINY = PictureConfig(longer_side=128, max_people=3, empty=0.0, min_height=0.3)
PLACE = SceneConfig(seed=5, width=480, height=272, duration_s=6, rate_hz=5, people=3, shake=0, shake_degrees=0,
                    pillars=0, furniture=0, returning=0)  # fmt: skip
SIZE = (PLACE.width, PLACE.height)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one static camera: a sequence with ground truth, and a video without."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mot" / "plaza" / "img1").mkdir(parents=True)
    (folder / "mot" / "plaza" / "gt").mkdir()
    rows: list[str] = []
    video = cv2.VideoWriter(str(folder / "plaza.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), PLACE.rate_hz, SIZE)
    for number, rendered in enumerate(render(PLACE), 1):
        cv2.imwrite(str(folder / "mot" / "plaza" / "img1" / f"{number:06d}.jpg"), rendered.frame.image)
        video.write(rendered.frame.image)
        rows += ground_truth_rows([rendered])
    video.release()
    (folder / "mot" / "plaza" / "gt" / "gt.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "mot" / "plaza" / "seqinfo.ini").write_text(
        f"[Sequence]\nname=plaza\nframeRate={PLACE.rate_hz}\nseqLength={PLACE.frames}\nimWidth={SIZE[0]}\n"
        f"imHeight={SIZE[1]}\n", encoding="utf-8")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def settings() -> MaterialConfig:
    return MaterialConfig(
        scenes=(
            SceneSource(name="plaza", path=Path("mot/plaza"), every=2, left_out="plaza"),
            SceneSource(name="clip", path=Path("plaza.mp4"), every=4),
        ),
        teacher=TEACHER,
        detector=SetConfig(
            train_pictures=12,
            validation_pictures=4,
            pictures=PictureConfig(longer_side=128, photographed=1, photographed_backdrops=1, max_things=2, empty=0),
        ),
        embedder=CropSetConfig(height=64, width=32, recoloured=2, rendered=2, validation=2, views=4, filmed_views=6),
    )  # fmt: skip


@pytest.fixture(scope="module")
def material(data: Path, settings: MaterialConfig, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return prepare_scene(settings.scenes[0], data, settings, tmp_path_factory.mktemp("material") / "plaza")


# --- footage ----------------------------------------------------------------------------------------------------------


def test_a_scene_gives_frames_labels_background_and_cutouts(material: Material, settings: MaterialConfig) -> None:
    assert [int(file.stem) % 2 for file in material.frames] == [0] * len(material.frames)
    assert len(material.labels) == len(material.frames) > 5
    assert material.background().shape == (PLACE.height, PLACE.width, 3)
    empty = next(render(PLACE.model_copy(update={"people": 0}))).frame.image
    assert np.abs(material.background().astype(int) - empty).mean() < 4, "people are in the background"
    views = [view for person in material.views() for view in person]
    assert len(views) > 5
    for view in views:
        assert 0.15 < (view[..., 3] > 127).mean() < 0.85
        assert (view[..., :3] <= view[..., 3:]).all(), "colours are multiplied by the coverage"


def test_prepared_material_is_reused_until_settings_change(
    material: Material, data: Path, settings: MaterialConfig
) -> None:
    before = (material.folder / "place.png").stat().st_mtime_ns
    prepare_scene(settings.scenes[0], data, settings, material.folder)
    assert (material.folder / "place.png").stat().st_mtime_ns == before


def test_footage_without_ground_truth_is_labelled_by_tracks_that_persist(data: Path, tmp_path: Path) -> None:
    source = SceneSource(name="clip", path=Path("plaza.mp4"))
    teacher = tmp_path / "teacher.safetensors"
    shift_scores(TEACHER, teacher, 1.0)  # it gives low scores to drawn people
    made = open_scene(source, data, teacher, LabelConfig(sure_confidence=0.5, min_frames=5)).labels
    true = open_scene(SceneSource(name="plaza", path=Path("mot/plaza")), data, TEACHER, LabelConfig()).labels
    found = wanted = 0
    for frame, labels in true.items():
        inside = (labels.boxes[:, :2] > 4).all(1) & (labels.boxes[:, 2:] < np.array(SIZE) - 4).all(1)
        seen = labels.boxes[inside & (labels.visibility > 0.6)]
        wanted += len(seen)
        if len(seen) and len(made[frame].boxes):
            found += int((_iou(seen, made[frame].boxes).max(axis=1) > 0.5).sum())
    assert wanted > 20
    assert found / wanted > 0.7


def test_a_video_without_confident_tracks_is_refused_by_name(data: Path) -> None:
    source = SceneSource(name="clip", path=Path("plaza.mp4"))
    with pytest.raises(InvalidData, match=r"plaza\.mp4: no person is tracked for 10000 frames"):
        open_scene(source, data, TEACHER, LabelConfig(min_frames=10_000))


def test_missing_footage_is_named(settings: MaterialConfig, tmp_path: Path) -> None:
    with pytest.raises((NotFound, InvalidData), match="plaza"):
        prepare_scene(settings.scenes[0], tmp_path, settings, tmp_path / "out")
    assert not (tmp_path / "out" / "settings.json").exists(), "what was not finished is done again"


def test_the_person_lower_in_the_picture_occludes_the_others() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 0, 15, 30], [100, 0, 110, 20]], np.float32)
    np.testing.assert_allclose(occluded_by(boxes), [0.5, 0, 0])
    assert occluded_by(np.empty((0, 4), np.float32)).shape == (0,)


def test_the_background_is_estimated_behind_moving_people() -> None:
    place = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    images, boxes = [], []
    for x in range(0, 60, 10):
        image = place.copy()
        image[10:50, x : x + 12] = (0, 0, 255)
        images.append(image)
        boxes.append(np.array([[x, 10, x + 12, 50]], np.float32))
    background = estimate_background(images, boxes)
    np.testing.assert_array_equal(background, place)
    assert unlabelled_share(images[0], background, boxes[0], 30) == 0
    assert unlabelled_share(images[0], background, np.empty((0, 4), np.float32), 30) > 0.03


def test_a_person_is_cut_out_only_if_they_differ_from_the_background() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(60, 120, (200, 160, 3), dtype=np.uint8)
    background = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)
    image = background.copy()
    cv2.ellipse(image, (80, 100), (24, 60), 0, 0, 360, (20, 40, 220), cv2.FILLED)
    box = np.array([56, 40, 104, 160], np.float32)
    cut = cut_person(image, background, box, 80)
    assert cut is not None
    assert cut.shape[0] == 80, "no higher than asked for"
    assert (cut[..., 3] > 127).mean() == pytest.approx(np.pi / 4, abs=0.08)
    assert cut_person(background, background, box, 80) is None


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_boxes_in_windows_enclose_the_people() -> None:
    image = np.full((200, 300, 3), 60, np.uint8)
    box = np.array([[120, 50, 160, 150]], np.float32)
    image[50:150, 120:160] = 255
    labels = Labels(np.array([1]), box, np.ones(1, np.float32), np.empty((0, 4), np.float32))
    plain = PictureConfig(longer_side=128, blurred=0, colourless=0)
    bright = checked = 0
    for seed in range(30):
        shot = cut_window(image, labels, MaterialConfig.model_fields["windows"].default, plain,
                          np.random.default_rng(seed))  # fmt: skip
        assert max(shot.image.shape[:2]) == 128
        if shot.visibility[0] > 0.9:
            x1, y1, x2, y2 = np.clip(shot.boxes[0], 0, 128).round().astype(int)
            inside = shot.image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].mean()
            checked += 1
            bright += inside > shot.image.mean()
    assert checked > 10
    assert bright == checked


@pytest.mark.parametrize("strength", [0.05, 0.4])
def test_boxes_follow_a_wide_angle_lens(strength: float) -> None:
    image = np.zeros((180, 320, 3), np.uint8)
    boxes = np.array([[10, 20, 60, 150], [150, 40, 200, 140], [290, 100, 340, 220]], np.float32)
    for x1, y1, x2, y2 in boxes.astype(int):
        image[y1:y2, x1:x2] = 255
    bent = distort(Shot(image, boxes, np.ones(3, np.float32)), strength)
    for box in np.clip(bent.boxes, 0, (320, 180, 320, 180)).round().astype(int):
        x1, y1, x2, y2 = box
        inside = bent.image[y1:y2, x1:x2, 0] > 127
        assert inside.mean() > 0.7
        assert inside.any(axis=0).mean() > 0.9
        assert inside.any(axis=1).mean() > 0.9
        bent.image[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = 0
    assert not (bent.image > 127).any(), "a part of a person is outside of the box"


def test_occluders_lower_the_visibility_of_the_people_behind_them() -> None:
    image = np.full((200, 200, 3), (0, 0, 255), np.uint8)
    image[40:180, 80:120] = (0, 255, 0)
    shot = Shot(image, np.array([[80, 40, 120, 180]], np.float32), np.ones(1, np.float32))
    plain = PictureConfig(blurred=0, colourless=0)
    covered = []
    for seed in range(20):
        made = film(shot, plain.model_copy(update={"occluded": 1.0}), np.random.default_rng(seed))
        green = (made.image[40:180, 80:120, 1] > 200) & (made.image[40:180, 80:120, 2] < 60)
        assert abs(green.mean() - made.visibility[0]) < 0.12
        covered.append(made.visibility[0])
    assert min(covered) < 0.7
    assert max(covered) == 1
    assert shot.visibility[0] == 1


def test_pictures_at_night_are_dark_and_noisy() -> None:
    shot = Shot(np.full((90, 160, 3), 180, np.uint8), np.empty((0, 4), np.float32), np.empty(0, np.float32))
    config = PictureConfig(blurred=0, colourless=0, dark=1.0)
    for seed in range(5):
        image = film(shot, config, np.random.default_rng(seed)).image
        assert image[0, :, 0].astype(float).std() > 1
        assert np.percentile(image, 10) < 150


def test_a_data_set_has_windows_and_people_on_other_backdrops(
    material: Material, settings: MaterialConfig, tmp_path: Path
) -> None:
    data = write_set(settings, {"plaza": material}, Pictures([], []), tmp_path / "set")
    images = sorted((tmp_path / "set" / "images" / "train").glob("*.jpg"))
    labels = sorted((tmp_path / "set" / "labels" / "train").glob("*.txt"))
    assert len(images) == len(labels) == 12
    rows = [line.split() for file in labels for line in file.read_text(encoding="utf-8").splitlines()]
    assert rows
    values = np.array(rows, float)
    assert (values[:, 0] == 0).all()
    assert ((values[:, 1:] >= 0) & (values[:, 1:] <= 1)).all()
    before = data.stat().st_mtime_ns
    assert write_set(settings, {"plaza": material}, Pictures([], []), tmp_path / "set").stat().st_mtime_ns == before


def test_picture_folders_give_backdrops_and_things_without_duplicates(tmp_path: Path, settings: MaterialConfig) -> None:
    source, rng = tmp_path / "source", np.random.default_rng(0)
    source.mkdir()
    coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    place = cv2.resize(coarse, (2000, 1200), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(source / "place.jpg"), place)
    cv2.imwrite(str(source / "the same.png"), place)
    thing = np.zeros((200, 200, 4), np.uint8)
    cv2.circle(thing, (100, 100), 60, (0, 200, 50, 255), cv2.FILLED)
    cv2.imwrite(str(source / "thing.png"), thing)
    (source / "broken.png").write_bytes(b"no picture")
    chosen = settings.model_copy(update={"pictures": (source,)})
    found = prepare_pictures(chosen, TEACHER, tmp_path / "out")
    ((kept,), (round_,)) = (found.backdrops[0], found.things[0])
    assert max(read_picture(kept).shape) == settings.max_side
    cut = read_cut(round_)
    assert cut.shape[:2] == (121, 121), "cut to what is covered"
    with pytest.raises(NotFound, match="nowhere"):
        prepare_pictures(settings.model_copy(update={"pictures": (tmp_path / "nowhere",)}), TEACHER, tmp_path / "no")


def test_rendered_pictures_use_photographed_people_and_backdrops_and_label_only_people() -> None:
    person = np.zeros((60, 24, 4), np.uint8)
    person[2:58, 3:21] = (0, 0, 255, 255)
    thing = np.full((20, 20, 4), 255, np.uint8)
    place = np.full((200, 200, 3), (0, 255, 0), np.uint8)
    config = TINY.model_copy(
        update={
            "photographed": 1.0,
            "recoloured": 0.0,
            "photographed_backdrops": 1.0,
            "max_things": 3,
            "blurred": 0.0,
            "colourless": 0.0,
        }
    )
    overlays = Overlays([[person]], [[thing]], [[place]])
    for shot, rows in pictures(config, 3, 6, overlays=overlays):
        assert len(shot.boxes) == len(shot.visibility) == len(rows) <= config.max_people
        green = (shot.image[..., 1].astype(int) > shot.image[..., 0].astype(int) + 30).mean()
        assert green > 0.2, "the place is the photograph"


def test_clothes_are_recoloured_and_heads_are_not() -> None:
    person = np.full((100, 40, 4), 255, np.uint8)
    person[..., :3] = (90, 90, 90)
    dyed = dye_clothes(person, Dyes(0.5, Dye(0, True, (0, 200), (1, 0)), Dye(60, True, (0, 200), (1, 0))))
    np.testing.assert_array_equal(dyed[:12], person[:12])
    np.testing.assert_array_equal(dyed[97:], person[97:])
    assert dyed[30, 20, 2] > dyed[30, 20, 1], "red above"
    assert dyed[70, 20, 1] > dyed[70, 20, 2], "green below"
    np.testing.assert_array_equal(dyed[..., 3], person[..., 3])
    rng = np.random.default_rng(0)
    for _ in range(50):
        half = person // 2
        assert (dye_clothes(half, draw_dye(rng))[..., :3] <= half[..., 3:]).all()


def test_a_recoloured_person_is_another_identity() -> None:
    person = np.full((60, 20, 4), (40, 90, 140, 255), np.uint8)
    for seed in range(100):
        (view,) = dress_person(Overlays(people=[[person]]), np.random.default_rng(seed)).views
        assert not np.array_equal(view, person)


def test_backdrops_of_any_shape_fill_the_picture() -> None:
    rng = np.random.default_rng(0)
    overlays = Overlays(backdrops=[[np.zeros((100, 400, 3), np.uint8)], [np.zeros((64, 64, 3), np.uint8)]])
    for _ in range(30):
        place = draw_backdrop(overlays, 320, 180, rng)
        assert place.shape[1] / place.shape[0] == pytest.approx(320 / 180, rel=0.15)


def test_color_jitter_changes_colours_and_not_sizes() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    lit = [jitter_colors(image, np.random.default_rng(seed)) for seed in range(8)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in lit)
    assert len({one.tobytes() for one in lit}) == 8


# --- crops ------------------------------------------------------------------------------------------------------------


def test_crops_are_of_filmed_recoloured_photographed_and_rendered_people(
    material: Material, settings: MaterialConfig, tmp_path: Path
) -> None:
    overlays = read_overlays(settings, [material], Pictures([], []))
    one = next(files for files in material.people.values() if files)[:1]
    town = Material(material.folder, material.frames[:1], material.labels[:1], {0: one})
    folder = write_crops(settings, {"plaza": material}, overlays, tmp_path / "crops", {"town": town})
    train = sorted((folder / "bounding_box_train").glob("*.jpg"))
    people: dict[str, list[Path]] = {file.name[:4]: [] for file in train}
    for file in train:
        people[file.name[:4]].append(file)
        assert read_picture(file).shape == (64, 32, 3)
    made = settings.embedder.recoloured + 1 + settings.embedder.rendered
    filmed = len(people) - made
    assert 1 <= filmed <= PLACE.people
    assert [len(files) for files in people.values()][filmed:] == [settings.embedder.views] * made
    others = {file.name[:4] for part in ("query", "bounding_box_test") for file in (folder / part).glob("*.jpg")}
    assert len(others) == settings.embedder.validation
    assert not others & set(people)


def test_grouped_ids_are_one_person(material: Material, settings: MaterialConfig, tmp_path: Path) -> None:
    ids = sorted({int(one) for labels in material.labels for one in labels.ids})
    few = settings.embedder.model_copy(update={"recoloured": 0, "rendered": 0, "min_views": 2})

    def count(same: tuple[tuple[int, ...], ...], folder: str) -> int:
        scene = settings.scenes[0].model_copy(update={"same": same})
        changed = settings.model_copy(update={"scenes": (scene,), "embedder": few})
        out = write_crops(changed, {"plaza": material}, Overlays(), tmp_path / folder)
        return len({file.name[:4] for file in (out / "bounding_box_train").glob("*.jpg")})

    assert count((tuple(ids),), "one") == 1
    assert count((), "apart") > 1


# --- trained weights --------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(settings: MaterialConfig, data: Path, tmp_path: Path) -> Workspace:
    """Finished models with one held-out scene; their weights have a single value."""
    shop = Workspace(data, CONFIGS, tmp_path / "work", settings)
    found = Scores("PKU-Reid-74, cross-camera, 3 queries", "key", {"Rank-1": 45.0, "mAP": 30.0, "mINP": 10.0})
    models: list[tuple[str, Literal["detector", "reid"], tuple[Scores, ...]]] = [
        ("all", "detector", ()),
        ("free", "detector", ()),
        ("without-plaza", "detector", ()),
        ("embedder", "reid", (found,)),
        ("../free/models/embedder", "reid", (found,)),
    ]
    for name, role, scores in models:
        folder = shop.model(name)
        folder.mkdir(parents=True)
        save_file({"weight": torch.ones(2), "count": torch.tensor(3)}, folder / "weights.safetensors", {"kind": role})
        write_card(
            folder, Card(role, "weights.safetensors", checksum(folder / "weights.safetensors"), "net", {}, scores)
        )
    score = {"mAP50-95": 0.3, "images": 9}
    for name, ratio in (("without-plaza", 0.61234), ("free", 0.5)):
        measured = {"plaza": score | {"mAP50": ratio}}
        (shop.model(name) / "scores.json").write_text(json.dumps(measured), encoding="utf-8")
    return shop


def test_weights_are_shipped_in_half_precision_with_held_out_scores(workspace: Workspace, tmp_path: Path) -> None:
    detector, free, embedder, free_embedder = ship(workspace, tmp_path)
    assert (free.name, free_embedder.name) == ("detector-free.safetensors", "embedder-free.safetensors")
    with safe_open(free, framework="pt") as weights:
        assert json.loads(weights.metadata()["metrics"])["plaza/mAP50"] == 0.5
    with safe_open(detector, framework="pt") as weights:
        metadata = weights.metadata()
        assert weights.get_tensor("weight").dtype == torch.float16
        assert weights.get_tensor("count").dtype == torch.int64
    assert (metadata["kind"], metadata["command"], metadata["seed"]) == ("detector", "make bundled", "2024")
    measured = {"plaza/mAP50": 0.6123, "plaza/mAP50-95": 0.3, "mean/mAP50": 0.6123, "mean/mAP50-95": 0.3}
    assert json.loads(metadata["metrics"]) == measured
    with safe_open(embedder, framework="pt") as weights:
        assert json.loads(weights.metadata()["metrics"]) == {"PKU-Reid-74/Rank-1": 0.45, "PKU-Reid-74/mAP": 0.3}


def test_nothing_is_shipped_before_every_held_out_score_exists(workspace: Workspace, tmp_path: Path) -> None:
    shutil.rmtree(workspace.model("without-plaza"))
    with pytest.raises(NotFound, match="without-plaza"):
        ship(workspace, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_values_beyond_half_precision_are_named(workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.model("all")
    save_file({"norm.running_var": torch.tensor([1e6])}, folder / "weights.safetensors", {})
    sha256 = checksum(folder / "weights.safetensors")
    write_card(folder, Card("detector", "weights.safetensors", sha256, "net"))
    with pytest.raises(InvalidData, match=r"norm\.running_var"):
        ship(workspace, tmp_path)


def test_each_group_is_left_out_once_and_finished_steps_are_reused(
    settings: MaterialConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs are replaced by one that copies the shipped weights; the slow test trains."""
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)
    embedder = yaml.safe_load((configs / "bundled" / "embedder.yaml").read_text())
    converted: list[Path] = []
    small = merge(embedder, {"batch": {"identities": 4, "views": 2}})
    (configs / "bundled" / "embedder.yaml").write_text(yaml.safe_dump(small))
    _write_crops(data)
    (data / "town").mkdir(exist_ok=True)
    cv2.imwrite(str(data / "town" / "a.png"), next(render(PLACE)).frame.image)
    town = PhotographSource(name="town", path=Path("town"), left_out="town")
    shop = Workspace(
        data, configs, tmp_path / "work", settings.model_copy(update={"photographs": (town,), "shift": -0.5})
    )
    jobs: dict[str, Any] = {}

    def copy(job: Any, folder: Path, say: Any) -> None:
        jobs[folder.name.removesuffix("-trained")] = job.settings
        folder.mkdir()
        shutil.copy(TEACHER, folder / "detector.safetensors")
        write_card(folder, Card("detector", "detector.safetensors", checksum(TEACHER), "yolov8n"))

    def convert(_model: Path, pictures: list[Path], output: Path, _shift: float) -> None:
        converted.extend(pictures)
        shutil.copy(TEACHER, output)

    monkeypatch.setattr("training.bundled.make.run_job", copy)
    monkeypatch.setattr("training.bundled.make.write_nanodet", convert)
    for _ in range(2):
        make_detector(shop)
    make_embedder(shop)
    assert list(jobs) == ["without-plaza", "without-town", "all", "embedder"]
    assert {file.parent.parent.name for file in converted} == {"clip"}, "only what no detector is scored on"
    trained = list(jobs)[:-1]
    assert {jobs[name].init for name in trained} == {str(shop.model("free") / "detector.safetensors")}
    assert {jobs[name].teacher.weights for name in trained} == {str(TEACHER)}
    scores = {name: json.loads((shop.model(name) / "scores.json").read_text()) for name in ("free", *trained)}
    assert list(scores["without-plaza"]) == ["plaza"]
    assert list(scores["free"]) == list(scores["all"]) == ["plaza", "town"]
    sources = {name: _sources(tmp_path / "work" / f"pictures-{name}") for name in trained}
    assert sources == {
        "without-plaza": ["clip", "town"], "without-town": ["clip", "plaza"], "all": ["clip", "plaza", "town"]
    }  # fmt: skip
    assert set(scores["all"]["town"]) == {"people", "recall", "agreeing", "teacher_recall", "teacher_agreeing"}
    assert {"plaza/mAP50", "mean/mAP50"} <= set(detector_metrics(shop, lambda group: f"without-{group}"))
    biases = [
        sorted((name, value) for name, value in load_file(file).items() if re.search(r"cv3\.\d\.\d\.bias", name))
        for file in (TEACHER, shop.model("all") / "detector.safetensors")
    ]
    assert len(biases[0]) == 3
    for (name, trained_bias), (_, shifted) in zip(*biases, strict=True):
        torch.testing.assert_close(shifted, trained_bias - 0.5, msg=name)


def test_weights_without_scores_are_not_shifted(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidData, match="has no scores"):
        shift_scores(tmp_path / "other.safetensors", tmp_path / "out.safetensors", 1.0)
    assert not (tmp_path / "out.safetensors").exists()


def test_free_weights_learn_from_free_sources_and_their_own_labels(settings: MaterialConfig, data: Path) -> None:
    clip = settings.scenes[1].model_copy(update={"free": True})
    town = PhotographSource(name="town", path=Path("town"))
    changes = {"scenes": (settings.scenes[0], clip), "photographs": (town,)}
    shop = Workspace(data, CONFIGS, Path("work"), settings.model_copy(update=changes))
    free = free_workspace(shop)
    assert free.settings.scenes == (clip,)
    assert not free.settings.photographs
    assert free.teacher == Path("work/models/free/detector.safetensors").resolve()
    assert free.model("embedder") == Path("work/free/models/embedder")
    assert free.settings.labels.sure_confidence == shop.settings.free_confidence != shop.settings.labels.sure_confidence


def _sources(folder: Path) -> list[str]:
    """Return the names of the sources that training pictures were made of."""
    _, sources = json.loads((folder / "settings.json").read_text())
    return list(sources)


@pytest.mark.slow
def test_all_models_are_trained_and_shipped_and_finished_steps_are_reused(
    settings: MaterialConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)
    _write_crops(data)
    quick = {"epochs": 1, "image_size": 64, "batch_size": 4, "nominal_batch": 4, "compute": {"workers": 0}}
    for name, changes in (
        ("detector", quick),
        ("embedder", {"schedule": {"epochs": 1, "warmup_epochs": 0}, "batch": {"identities": 2, "views": 2},
                      "compute": {"workers": 0}, "crops": {"pad": 0}}),
    ):  # fmt: skip
        file = configs / "bundled" / f"{name}.yaml"
        tree = merge(yaml.safe_load(file.read_text(encoding="utf-8")), changes)
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    clip = settings.scenes[1].model_copy(update={"free": True})
    base = BaseConfig(path=write_tfjs(tmp_path, nanodet_weights()), pictures=2)
    changed = settings.model_copy(update={"scenes": (settings.scenes[0], clip), "base": base})
    shop = Workspace(data, configs, tmp_path / "work", changed)
    make_detector(shop)
    make_embedder(shop)
    # random weights label nothing
    monkeypatch.setattr("training.bundled.make.free_workspace", lambda it: replace(it, work=it.work / "free"))
    make_free_embedder(shop)
    monkeypatch.setattr("training.bundled.ship.free_workspace", lambda it: replace(it, work=it.work / "free"))
    detector, _, embedder, _ = ship(shop, tmp_path)
    with safe_open(detector, framework="pt") as weights:
        assert set(json.loads(weights.metadata()["metrics"])) == {
            "plaza/mAP50", "plaza/mAP50-95", "mean/mAP50", "mean/mAP50-95"
        }  # fmt: skip
    with safe_open(embedder, framework="pt") as weights:
        assert "PKU-Reid-74/Rank-1" in json.loads(weights.metadata()["metrics"])
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*") if file.is_file()}
    make_detector(shop)
    make_embedder(shop)
    make_free_embedder(shop)
    assert {file: file.stat().st_mtime_ns for file in before} == before


# --- settings and shipped weights -------------------------------------------------------------------------------------


def test_the_shipped_settings_are_valid() -> None:
    settings = read_settings(CONFIGS / "bundled" / "material.yaml", MaterialConfig)
    assert [scene.name for scene in settings.scenes if scene.left_out] == ["MOT17-09", "PETS09-S2L1", "TUD-Campus"]
    assert len(settings.groups) == 3
    assert not any("Single1" in str(scene.path) or "reid_images" in str(scene.path) for scene in settings.scenes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenes: []", "scenes"),
        ("scenes: [{name: a, path: a}, {name: a, path: b}]", "two scenes have one name: a, a"),
        ("scenes: [{name: ../a, path: a}]", "name"),
        ("scenes: [{name: a, path: a, left_out: b}]", "no scene is left without those of b: add another one"),
        ("scenes: [{name: a, path: a}]\ndetector: {scene_backdrops: 0.7}", "their sum is over 1"),
        ("scenes: [{name: a, path: a, often: 2}]", "often"),
    ],
)
def test_wrong_settings_are_refused_with_the_file_named(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundled" / "material.yaml"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig, match=said):
        read_settings(file, MaterialConfig)
    assert command.main(["detector", "--data", str(tmp_path), "--configs", str(tmp_path)]) == 2


def test_a_person_from_above_is_lower_and_narrow_at_the_feet() -> None:
    view = np.full((100, 40, 4), 255, np.uint8)
    above = foreshorten(view, 0.6, 0.5)
    assert above.shape == (60, 40, 4)
    widths = (above[..., 3] > 127).sum(axis=1)
    assert widths[0] >= 38
    assert 18 <= widths[-1] <= 24
    assert (np.diff(widths.astype(int)) <= 0).all()
    person = draw_person(Overlays(people=[[view]]), 0, np.random.default_rng(1), foreshortened=1)
    assert person.height < 0.95 * 1.95
    assert person.views[0].shape[0] < 96


def test_pictures_depend_on_the_seed_only() -> None:
    first, again, other = ([shot for shot, _ in pictures(TINY, seed, 3)] for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.boxes, two.boxes)
    assert any(
        one.image.shape != two.image.shape or (one.image != two.image).any()
        for one, two in zip(first, other, strict=True)
    )


def test_labels_are_fractions_of_the_picture_and_omit_occluded_people(tmp_path: Path) -> None:
    settings = RenderedPictures(pictures=TINY, train_pictures=6, validation_pictures=2, min_visibility=0.5)
    data = write_dataset(settings, 3, tmp_path / "set")
    labels = sorted((tmp_path / "set" / "labels" / "train").glob("*.txt"))
    assert len(labels) == 6
    shots = [shot for shot, _ in pictures(TINY, 6, 6)]
    for file, shot in zip(labels, shots, strict=True):
        assert file.read_text(encoding="utf-8") == labels_of(shot, 0.5)
        rows = np.array([[float(v) for v in line.split()] for line in file.read_text().splitlines()]).reshape(-1, 5)
        assert len(rows) <= (shot.visibility >= 0.5).sum()
        assert ((rows >= 0) & (rows <= 1)).all()
    stamp = data.stat().st_mtime_ns
    assert write_dataset(settings, 3, tmp_path / "set").stat().st_mtime_ns == stamp, "a finished set is kept"


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low, high = np.maximum(first[:, None, :2], second[None, :, :2]), np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None, :] - shared))


def _write_crops(data: Path) -> None:
    """Write crops of two people by two cameras, on which the embedder is scored."""
    folder = data / "reid_images" / "PKU-Reid-74"
    folder.mkdir(parents=True, exist_ok=True)
    for person, camera in product((1, 2), (1, 2)):
        pixels = np.full((64, 32, 3), 90 * person, np.uint8)
        cv2.imwrite(str(folder / f"{person:04d}_c{camera}s1_000001_00.jpg"), pixels)
