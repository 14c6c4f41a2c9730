from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from motserve.config import KalmanConfig
from motserve.tracking.kalman import KalmanFilter, Motion
from motserve.tracking.motion import AreaFilter, AspectFilter, SizeFilter

Vector: TypeAlias = NDArray[np.float64]

CONFIG = KalmanConfig()
TRACKS = 7


class DenseFilter:
    """The textbook filter over four coordinates and their velocities, one 8 x 8 covariance per track: the oracle."""

    transition = np.block([[np.eye(4), np.eye(4)], [np.zeros((4, 4)), np.eye(4)]])
    observation = np.eye(4, 8)

    def initial(self, z: Vector) -> Vector:
        """Return the standard deviations of a new track."""
        return np.array([*[z[2] / 10] * 3, 1e-2, *[z[2] / 16] * 3, 1e-5])

    def process(self, mean: Vector) -> Vector:
        return np.array([*[mean[2] / 20] * 3, 1e-2, *[mean[2] / 160] * 3, 1e-5])

    def measurement(self, mean: Vector) -> Vector:
        return np.array([*[mean[2] / 20] * 3, 1e-1])

    def initiate(self, z: Vector) -> tuple[Vector, Vector]:
        return np.r_[z, np.zeros(4)], np.diag(np.square(self.initial(z)))

    def predict(self, mean: Vector, covariance: Vector) -> tuple[Vector, Vector]:
        noise = np.diag(np.square(self.process(mean)))
        return self.transition @ mean, self.transition @ covariance @ self.transition.T + noise

    def update(self, mean: Vector, covariance: Vector, z: Vector) -> tuple[Vector, Vector]:
        noise = np.diag(np.square(self.measurement(mean)))
        innovation_covariance = self.observation @ covariance @ self.observation.T + noise
        gain = covariance @ self.observation.T @ np.linalg.inv(innovation_covariance)
        return mean + gain @ (z - mean[:4]), covariance - gain @ innovation_covariance @ gain.T


class DenseSizeFilter(DenseFilter):
    """BoT-SORT's, over centre, width and height."""

    def initial(self, z: Vector) -> Vector:
        return np.array([*[z[2] / 10, z[3] / 10] * 2, *[z[2] / 16, z[3] / 16] * 2])

    def process(self, mean: Vector) -> Vector:
        return np.array([*[mean[2] / 20, mean[3] / 20] * 2, *[mean[2] / 160, mean[3] / 160] * 2])

    def measurement(self, mean: Vector) -> Vector:
        return np.array([mean[2] / 20, mean[3] / 20] * 2)


class DenseAreaFilter(DenseFilter):
    """SORT's, over centre, area and aspect ratio; the aspect ratio has no velocity."""

    transition = DenseFilter.transition.copy()
    transition[3, 7] = 0

    def initial(self, z: Vector) -> Vector:
        return np.sqrt([10, 10, 10, 10, 1e4, 1e4, 1e4, 0])

    def process(self, mean: Vector) -> Vector:
        return np.sqrt([1, 1, 1, 1, 1e-2, 1e-2, 1e-4, 0])

    def measurement(self, mean: Vector) -> Vector:
        return np.sqrt([1, 1, 10, 10])


MODELS = ["aspect", "size", "area"]


def build(model: str) -> tuple[KalmanFilter, DenseFilter]:
    """Return a motion model and its oracle."""
    if model == "aspect":
        return AspectFilter(CONFIG), DenseFilter()
    return (SizeFilter(CONFIG), DenseSizeFilter()) if model == "size" else (AreaFilter(), DenseAreaFilter())


def dense_covariance(kalman: KalmanFilter, motion: Motion, track: int) -> Vector:
    position, cross, velocity = motion[8:, track].reshape(3, -1)[:, kalman.group]
    return np.block([[np.diag(position), np.diag(cross)], [np.diag(cross), np.diag(velocity)]])


def measurements(seed: int, kalman: KalmanFilter | None = None) -> Vector:
    kalman = kalman or AspectFilter(CONFIG)
    random = np.random.default_rng(seed)
    centre = np.stack([random.uniform(0, 1920, TRACKS), random.uniform(0, 1080, TRACKS)])
    height = random.uniform(40, 400, TRACKS)
    size = np.stack([height * random.uniform(0.2, 0.8, TRACKS), height])
    return kalman.measure(centre.astype(np.float32), size.astype(np.float32)).astype(np.float64)


def moving_tracks(seed: int = 0, kalman: KalmanFilter | None = None) -> Motion:
    kalman = kalman or AspectFilter(CONFIG)
    random = np.random.default_rng(seed)
    z = measurements(seed, kalman)
    motion = kalman.initiate(z)
    for _ in range(5):
        kalman.predict(motion, 1.0)
        z[:3] += random.normal(2, 1, (3, TRACKS))
        kalman.update(motion, z, np.ones(TRACKS, np.bool_))
    return motion


@pytest.mark.parametrize("model", MODELS)
def test_equals_the_dense_filter(model: str) -> None:
    kalman, dense = build(model)
    random = np.random.default_rng(1)
    z = measurements(1, kalman)
    motion = kalman.initiate(z)
    states = [dense.initiate(z[:, track]) for track in range(TRACKS)]
    for _ in range(50):
        z = z + random.normal(0, [[3.0], [3.0], [1.0], [0.01]], z.shape)
        matched = random.random(TRACKS) < 0.7
        kalman.predict(motion, 1.0)
        kalman.update(motion, z, matched)
        states = [dense.predict(*state) for state in states]
        states = [dense.update(*state, z[:, track]) if matched[track] else state for track, state in enumerate(states)]
        for track, (mean, covariance) in enumerate(states):
            np.testing.assert_allclose(motion[:8, track], mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(dense_covariance(kalman, motion, track), covariance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_measurements_and_boxes_are_there_and_back(model: str) -> None:
    kalman, _ = build(model)
    centre, size = np.array([[100, 5], [50, 7]], np.float32), np.array([[20, 4], [40, 2]], np.float32)
    measured = kalman.measure(centre, size)
    motion = kalman.initiate(measured)
    assert measured.dtype == kalman.boxes(motion).dtype == np.float32
    np.testing.assert_allclose(kalman.boxes(motion).T, [[90, 30, 110, 70], [3, 6, 7, 8]], rtol=1e-6)
    np.testing.assert_allclose(kalman.sizes(motion), size, rtol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_a_warp_moves_boxes_as_it_moves_their_corners(model: str) -> None:
    kalman, _ = build(model)
    motion = moving_tracks(3, kalman)
    before = kalman.boxes(motion).astype(np.float64)
    ahead = motion.copy()
    kalman.predict(ahead, 4.0)
    kalman.warp(motion, np.array([[1.1, 0, 30], [0, 1.1, -20]]))
    after = kalman.boxes(motion)
    np.testing.assert_allclose(after[::2], 1.1 * before[::2] + 30, rtol=1e-4)
    np.testing.assert_allclose(after[1::2], 1.1 * before[1::2] - 20, rtol=1e-4)
    # the same whether the camera moves before the people do or after
    kalman.warp(ahead, np.array([[1.1, 0, 30], [0, 1.1, -20]]))
    kalman.predict(motion, 4.0)
    np.testing.assert_allclose(motion[:8], ahead[:8], rtol=1e-9)
    tolerance = 1e-9 if model == "aspect" else 0.3  # there the noises grow along, or are constants
    np.testing.assert_allclose(motion[8:], ahead[8:], rtol=tolerance)


@pytest.mark.parametrize("model", MODELS)
def test_a_warp_to_a_single_point_leaves_boxes_with_a_size(model: str) -> None:
    kalman, _ = build(model)
    motion = moving_tracks(3, kalman)
    kalman.warp(motion, np.array([[0.0, 0, 5], [0, 0, 7]]))
    assert (kalman.sizes(motion) > 0).all()
    assert np.isfinite(kalman.boxes(motion)).all()


@pytest.mark.parametrize(("model", "powers"), [("aspect", [2, 0]), ("size", [2, 2]), ("area", [2, 4, 0])])
def test_variances_grow_with_the_picture(model: str, powers: list[int]) -> None:
    kalman, _ = build(model)
    motion = moving_tracks(3, kalman)
    before = motion[8:].reshape(3, len(powers), -1).copy()
    kalman.warp(motion, np.array([[1.1, 0, 30], [0, 1.1, -20]]))
    expected = before * 1.1 ** np.array(powers)[:, None]
    np.testing.assert_allclose(motion[8:].reshape(3, len(powers), -1), expected, rtol=1e-12)


def test_a_turn_of_the_camera_turns_velocities() -> None:
    kalman, _ = build("aspect")
    motion = moving_tracks(4)
    motion[4:6] = [[3.0], [0.0]]
    kalman.warp(motion, np.array([[0.0, -1, 500], [1, 0, 0]]))
    np.testing.assert_allclose(motion[4:6], np.array([[0.0], [3.0]]).repeat(TRACKS, 1), atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_a_measurement_with_less_noise_has_more_weight(model: str) -> None:
    kalman, _ = build(model)
    z = measurements(5, kalman)
    matched = np.ones(TRACKS, np.bool_)
    errors = []
    for trust in (4.0, 1.0, 0.25, 0.0):
        motion = moving_tracks(5, kalman)
        kalman.update(motion, z, matched, np.full(TRACKS, trust))
        errors.append(np.abs(motion[:4] - z).max(axis=1))
    assert all((later <= earlier).all() for earlier, later in pairwise(errors))
    np.testing.assert_allclose(errors[-1], 0, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_distances_are_those_of_mahalanobis(model: str) -> None:
    kalman, dense = build(model)
    motion, z = moving_tracks(7, kalman), measurements(8, kalman)
    rows, columns = np.array([0, 3, 3]), np.array([1, 1, 6])
    found = kalman.distance(motion, z, rows, columns)
    for row, column, distance in zip(rows, columns, found, strict=True):
        covariance = dense_covariance(kalman, motion, row)[:4, :4]
        covariance += np.diag(np.square(dense.measurement(motion[:8, row])))
        innovation = z[:, column] - motion[:4, row]
        assert distance == pytest.approx(innovation @ np.linalg.inv(covariance) @ innovation)


@pytest.mark.parametrize("steps", [1.0, 2.0])
def test_an_area_stays_positive(steps: float) -> None:
    kalman, _ = build("area")
    motion = moving_tracks(6, kalman)
    motion[6] = -motion[2]
    before = motion[2].copy()
    kalman.predict(motion, steps)
    np.testing.assert_array_equal(motion[2], before)
    assert np.isfinite(kalman.boxes(motion)).all()


def test_an_area_may_shrink_to_less_than_a_pixel() -> None:
    kalman, _ = build("area")
    motion = moving_tracks(6, kalman)
    motion[2], motion[6] = 100, -99.5
    kalman.predict(motion, 1.0)
    np.testing.assert_array_equal(motion[2], 0.5)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 30])
def test_a_step_of_n_equals_n_unit_steps(steps: int) -> None:
    kalman = AspectFilter(CONFIG)
    motion = moving_tracks()
    motion[6] = 0  # the noise depends on the height, so the height must be constant for the two to be equal
    at_once, one_by_one = motion.copy(), motion.copy()
    kalman.predict(at_once, steps)
    for _ in range(steps):
        kalman.predict(one_by_one, 1.0)
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0.25, 0.75), (0.5, 0.5), (1.3, 2.9), (30 / 7, 30 / 7)])
def test_a_step_can_be_split_anywhere(first: float, second: float) -> None:
    kalman = AspectFilter(CONFIG)
    motion = moving_tracks()
    motion[6] = 0
    whole, split = motion.copy(), motion.copy()
    kalman.predict(whole, first + second)
    kalman.predict(split, first)
    kalman.predict(split, second)
    np.testing.assert_allclose(whole, split, rtol=1e-12)


@pytest.mark.parametrize("steps", [1e-6, 0.1, 0.79, 1.0, 4.3, 1e3, 1e300])
def test_the_covariance_stays_positive_definite_after_any_step(steps: float) -> None:
    kalman = AspectFilter(KalmanConfig(position_noise=0.01, velocity_noise=0.03))
    motion = moving_tracks()
    kalman.predict(motion, steps)
    kalman.update(motion, measurements(2), np.arange(TRACKS) % 2 == 0)
    assert np.isfinite(motion).all()
    position, cross, velocity = motion[8:].reshape(3, 2, -1)
    assert (position > 0).all()
    assert (velocity > 0).all()
    assert (position * velocity - cross**2 > 0).all()


def test_inconsistent_noise_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"position_noise 0\.001"):
        KalmanConfig(position_noise=0.001, velocity_noise=0.1)


def test_unmatched_tracks_do_not_change() -> None:
    motion = moving_tracks()
    before = motion.copy()
    AspectFilter(CONFIG).update(motion, measurements(3), np.zeros(TRACKS, np.bool_))
    np.testing.assert_array_equal(motion, before)


def test_heights_stay_positive_however_far_they_are_extrapolated() -> None:
    motion = moving_tracks()
    motion[6] = -50
    AspectFilter(CONFIG).predict(motion, 1000)
    assert (motion[2:4] > 0).all()
    boxes = AspectFilter(CONFIG).boxes(motion)
    assert np.isfinite(boxes).all()


def test_no_tracks_are_accepted() -> None:
    kalman = AspectFilter(CONFIG)
    motion = kalman.initiate(np.empty((4, 0)))
    kalman.predict(motion, 1.0)
    kalman.update(motion, np.empty((4, 0)), np.empty(0, np.bool_))
    assert kalman.boxes(motion).shape == (4, 0)
