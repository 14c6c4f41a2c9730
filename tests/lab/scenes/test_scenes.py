import hashlib
import itertools
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from motserve.lab.scenes import Placement, SceneConfig, Stage, ground_truth_rows, render
from motserve.lab.scenes.body import Pose
from motserve.lab.scenes.camera import Camera, Shake
from motserve.lab.scenes.clothing import sample_appearance, sample_cast
from motserve.lab.scenes.paths import plan

SMALL = {"width": 320, "height": 180, "duration_s": 0.4}


def _digest(config: SceneConfig) -> str:
    digest = hashlib.sha256()
    for rendered in render(config):
        for array in (rendered.frame.image, rendered.truth.ids, rendered.truth.boxes, rendered.truth.visibility):
            digest.update(array.tobytes())
    return digest.hexdigest()


def _still(**changes: object) -> Stage:
    """A stage without occluders, noise and shake, so that pictures can be compared pixel by pixel."""
    scene = {"pillars": 0, "furniture": 0, "noise": 0, "shake": 0, "shake_degrees": 0, "seed": 4} | changes
    return Stage(SceneConfig(**scene))


def _person(seed: int, x: float, z: float, heading: float = 0.0) -> Placement:
    return Placement(sample_appearance(np.random.default_rng(seed)), x, z, Pose(heading, 1.0, 1.0))


def test_the_same_configuration_gives_the_same_clip_and_another_seed_another() -> None:
    first, again, other = (_digest(SceneConfig(seed=seed, **SMALL)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_frames_have_indices_times_and_the_configured_size() -> None:
    frames = list(render(SceneConfig(rate_hz=10, **SMALL)))
    assert [r.frame.index for r in frames] == [0, 1, 2, 3]
    assert [r.frame.timestamp for r in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert all(r.frame.image.shape == (180, 320, 3) and r.frame.image.dtype == np.uint8 for r in frames)


def test_truth_has_types_and_shapes_of_the_struct() -> None:
    truth = next(render(SceneConfig(seed=1, **SMALL))).truth
    assert (truth.ids.dtype, truth.boxes.dtype, truth.visibility.dtype) == (np.int64, np.float32, np.float32)
    assert truth.boxes.shape == (len(truth), 4)
    assert (np.diff(truth.ids) > 0).all()
    assert ((truth.visibility >= 0) & (truth.visibility <= 1)).all()


def test_a_scene_may_have_no_people() -> None:
    frames = list(render(SceneConfig(people=0, **SMALL)))
    assert len(frames) == 10
    assert all(len(r.truth) == 0 for r in frames)


def test_frames_are_rendered_lazily() -> None:
    day = render(SceneConfig(duration_s=86400, people=3, width=160, height=90))
    assert [r.frame.index for r in itertools.islice(day, 2)] == [0, 1]


@pytest.mark.parametrize("heading", [0.0, 1.57, 3.14])
@pytest.mark.parametrize("seed", range(4))
def test_the_box_encloses_the_pixels_of_the_person(seed: int, heading: float) -> None:
    stage = _still()
    z = (stage.camera.near + stage.camera.far) / 2
    person = _person(seed, 0.2, z, heading)
    shot = stage.shoot([person])
    # A person of the same shape in other colours: the pixels that differ are those of the person.
    changed = _recoloured(person)
    difference = np.abs(shot.image.astype(int) - stage.shoot([changed]).image).max(axis=2) > 4
    rows, columns = np.flatnonzero(difference.any(axis=1)), np.flatnonzero(difference.any(axis=0))
    extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(shot.boxes[0], extent, atol=2)
    assert shot.visibility[0] == pytest.approx(1.0)


def _recoloured(person: Placement) -> Placement:
    colours = [f.name for f in fields(person.appearance) if isinstance(getattr(person.appearance, f.name), tuple)]
    inverse = {name: tuple((channel + 128) % 256 for channel in getattr(person.appearance, name)) for name in colours}
    return replace(person, appearance=replace(person.appearance, **inverse))


def test_boxes_are_of_the_whole_body_when_it_leaves_the_picture() -> None:
    stage = _still()
    z = stage.camera.near
    inside = stage.shoot([_person(1, 0.0, z)])
    edge = stage.camera.half_width(z)
    half_out = stage.shoot([_person(1, edge, z)])
    assert half_out.boxes[0, 2] > stage.camera.width
    np.testing.assert_allclose(half_out.boxes[0] - inside.boxes[0], [stage.camera.width / 2, 0] * 2, atol=0.6)
    assert 0.25 < half_out.visibility[0] < 0.75


def test_the_farther_person_is_occluded_and_the_nearer_is_not() -> None:
    stage = _still()
    near, far = stage.camera.near, stage.camera.far
    behind, front = _person(1, 0.0, far), _person(2, 0.0, near)
    alone = stage.shoot([behind])
    both = stage.shoot([behind, front])
    assert alone.visibility[0] == pytest.approx(1.0)
    assert both.visibility[0] < 0.4
    assert both.visibility[1] == pytest.approx(1.0)
    np.testing.assert_array_equal(alone.boxes[0], both.boxes[0])


def test_a_pillar_occludes_people() -> None:
    lowest = 1.0
    for rendered in render(SceneConfig(rate_hz=5, people=6, furniture=0, returning=1.0)):
        inside = (rendered.truth.boxes[:, 0] > 0) & (rendered.truth.boxes[:, 2] < 640)
        lowest = min([lowest, *rendered.truth.visibility[inside]])
    assert lowest < 0.2


def test_visibility_counts_pixels() -> None:
    stage = _still()
    z = stage.camera.near
    person = _person(3, 0.0, z)
    shot = stage.shoot([person, _person(5, 0.15, z - 0.1)])
    mask = _mask(stage, person)
    cover = _mask(stage, _person(5, 0.15, z - 0.1))
    assert shot.visibility[0] == pytest.approx((mask & ~cover).sum() / mask.sum(), abs=0.03)


def _mask(stage: Stage, person: Placement) -> np.ndarray:
    difference = np.abs(stage.shoot([person]).image.astype(int) - stage.shoot([_recoloured(person)]).image)
    return difference.max(axis=2) > 4


def test_people_leave_and_return_with_the_same_identity() -> None:
    config = SceneConfig(rate_hz=5, width=160, height=90)
    visible = np.zeros((config.frames, config.people + 1), bool)
    for rendered in render(config):
        visible[rendered.frame.index, rendered.truth.ids[rendered.truth.visibility > 0.1]] = True
    gaps = [
        gap
        for column in visible.T
        for gap in np.diff(np.flatnonzero(column)) / config.rate_hz
        if gap >= config.absence_min_s
    ]
    assert visible[:, 1:].any(axis=0).all(), "a person is never visible"
    assert len(gaps) >= 2


def test_people_never_appear_inside_the_picture() -> None:
    config = SceneConfig(
        rate_hz=10, pillars=0, furniture=0, people=10, shake=0.02, shake_degrees=1, width=320, height=180
    )
    before = None
    for rendered in render(config):
        truth = rendered.truth
        if before is not None:
            for identity in set(truth.ids.tolist()) - before:
                assert truth.visibility[truth.ids == identity][0] < 0.5
        before = set(truth.ids.tolist())


def test_people_walk_at_a_human_pace_and_face_forwards() -> None:
    config = SceneConfig(duration_s=30, people=12)
    camera = Camera.of(config)
    rng = np.random.default_rng(3)
    for person in plan(config, camera, sample_cast(rng, config.people, 1), rng):
        for time in np.arange(0, 30, 0.37):
            here, there = person.at(time), person.at(time + 0.04)
            if here is None or there is None:
                continue
            step = np.array([there.x - here.x, there.z - here.z]) / 0.04
            assert np.hypot(*step) < 2.5
            if np.hypot(*step) > 0.8:
                facing = np.array([np.sin(here.pose.heading), -np.cos(here.pose.heading)])
                assert facing @ step / np.hypot(*step) > 0.5


def test_visits_of_a_person_do_not_overlap() -> None:
    config = SceneConfig(duration_s=120, returning=1.0)
    rng = np.random.default_rng(0)
    for person in plan(config, Camera.of(config), sample_cast(rng, 8, 1), rng):
        assert len(person.visits) > 3
        for first, second in itertools.pairwise(person.visits):
            gap = second.times[0] - first.times[-1]
            assert config.absence_min_s <= gap <= config.absence_max_s


def test_shake_moves_boxes_and_pixels_alike() -> None:
    stage = _still()
    place = [_person(1, 0.0, stage.camera.near)]
    still = stage.shoot(place)
    motion = np.array([[1.0, 0.0, 7.0], [0.0, 1.0, 4.0]])
    moved = stage.shoot(place, motion)
    np.testing.assert_allclose(moved.boxes - still.boxes, [[7, 4, 7, 4]], atol=0.26)
    inner = (slice(40, -40), slice(40, -40))
    shifted = np.roll(still.image, (4, 7), axis=(0, 1))
    assert np.abs(moved.image[inner].astype(int) - shifted[inner]).mean() < 1.5


def test_shake_is_smooth_and_stays_within_its_bounds() -> None:
    config = SceneConfig(shake=0.01, shake_degrees=0.5)
    shake = Shake.of(config, np.random.default_rng(0))
    motions = np.array([shake.at(time) for time in np.arange(0, 20, 0.04)])
    centre = motions[:, :, :2] @ (320, 180) + motions[:, :, 2] - (320, 180)
    assert np.abs(centre).max() <= 0.01 * 360 + 1e-6
    assert np.abs(np.degrees(np.arcsin(motions[:, 1, 0]))).max() <= 0.5 + 1e-6
    assert np.abs(np.diff(centre, axis=0)).max() < 1.5
    corners = np.array([(0, 0), (640, 0), (0, 360), (640, 360)])
    reach = np.abs(np.einsum("tij,cj->tci", motions[:, :, :2], corners) + motions[:, None, :, 2] - corners).max()
    assert reach <= shake.margin


def test_ground_truth_rows_count_from_one_and_omit_people_outside() -> None:
    frames = list(render(SceneConfig(**SMALL)))
    rows = [line.split(",") for line in ground_truth_rows(frames)]
    assert len(rows) == sum(len(r.truth) for r in frames)
    first = frames[0].truth
    frame, identity, left, top, width, height = (float(value) for value in rows[0][:6])
    assert (frame, identity) == (1, first.ids[0])
    np.testing.assert_allclose([left - 1, top - 1, left - 1 + width, top - 1 + height], first.boxes[0], atol=0.02)
    for row in rows:
        assert row[7] == "1"
        assert row[6] == ("1" if float(row[8]) > 0 else "0") or float(row[8]) < 1e-4


def test_the_ground_truth_flag_depends_on_the_minimum_visibility() -> None:
    frames = list(render(SceneConfig(**SMALL)))
    rows = [line.split(",") for line in ground_truth_rows(frames, min_visibility=0.5)]
    assert {row[6] for row in rows} == {"0", "1"}
    assert all((row[6] == "1") == (float(row[8]) > 0.5) for row in rows)


def test_the_cast_is_more_distinct_than_random_people() -> None:
    def nearest(candidates: int) -> float:
        casts = [sample_cast(np.random.default_rng(seed), 8, candidates) for seed in range(12)]
        return np.mean(
            [
                min(np.linalg.norm(np.subtract(a.shell, b.shell)) for a, b in itertools.combinations(cast, 2))
                for cast in casts
            ]
        )

    assert nearest(8) > nearest(1)


def test_a_given_backdrop_is_used() -> None:
    place = np.full((60, 60, 3), 90, np.uint8)
    scene = SceneConfig(people=0, pillars=0, furniture=0, noise=0, width=128, height=96)
    image = Stage(scene, place).shoot([]).image
    assert image.reshape(-1, 3).std(axis=0).max() == 0
    assert cv2.mean(image)[0] == pytest.approx(90, abs=25)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"far_height": 0.7, "near_height": 0.5}, "far_height"),
        ({"absence_min_s": 5, "absence_max_s": 1}, "absence_min_s"),
        ({"people": -1}, "people"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        SceneConfig(**change)
