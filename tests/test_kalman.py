from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from motserve.config import KalmanConfig
from motserve.tracking.kalman import KalmanFilter, Motion, to_boxes

CONFIG = KalmanConfig()
TRACKS = 7


class DenseFilter:
    """The textbook filter over (x, y, h, a) and velocities, one 8 x 8 covariance per track: the oracle."""

    transition = np.block([[np.eye(4), np.eye(4)], [np.zeros((4, 4)), np.eye(4)]])
    observation = np.eye(4, 8)

    def initiate(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        std = [*[z[2] / 10] * 3, 1e-2, *[z[2] / 16] * 3, 1e-5]
        return np.r_[z, np.zeros(4)], np.diag(np.square(std))

    def predict(
        self, mean: NDArray[np.float64], covariance: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        std = [*[mean[2] / 20] * 3, 1e-2, *[mean[2] / 160] * 3, 1e-5]
        return self.transition @ mean, self.transition @ covariance @ self.transition.T + np.diag(np.square(std))

    def update(
        self, mean: NDArray[np.float64], covariance: NDArray[np.float64], z: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        noise = np.diag(np.square([*[mean[2] / 20] * 3, 1e-1]))
        innovation_covariance = self.observation @ covariance @ self.observation.T + noise
        gain = covariance @ self.observation.T @ np.linalg.inv(innovation_covariance)
        return mean + gain @ (z - mean[:4]), covariance - gain @ innovation_covariance @ gain.T


def dense_covariance(motion: Motion, track: int) -> NDArray[np.float64]:
    position, cross, velocity = motion[8:, track].reshape(3, 2)[:, [0, 0, 0, 1]]
    return np.block([[np.diag(position), np.diag(cross)], [np.diag(cross), np.diag(velocity)]])


def measurements(seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return np.stack(
        [
            random.uniform(0, 1920, TRACKS),
            random.uniform(0, 1080, TRACKS),
            random.uniform(40, 400, TRACKS),
            random.uniform(0.2, 0.8, TRACKS),
        ]
    )


def moving_tracks(seed: int = 0) -> Motion:
    kalman, random = KalmanFilter(CONFIG), np.random.default_rng(seed)
    z = measurements(seed)
    motion = kalman.initiate(z)
    for _ in range(5):
        kalman.predict(motion, 1.0)
        z[:3] += random.normal(2, 1, (3, TRACKS))
        kalman.update(motion, z, np.ones(TRACKS, np.bool_))
    return motion


def test_equals_the_dense_filter() -> None:
    kalman, dense, random = KalmanFilter(CONFIG), DenseFilter(), np.random.default_rng(1)
    z = measurements(1)
    motion = kalman.initiate(z)
    states = [dense.initiate(z[:, track]) for track in range(TRACKS)]
    for _ in range(50):
        z = z + random.normal(0, [[3], [3], [1], [0.01]], z.shape)
        matched = random.random(TRACKS) < 0.7
        kalman.predict(motion, 1.0)
        kalman.update(motion, z, matched)
        states = [dense.predict(*state) for state in states]
        states = [dense.update(*state, z[:, track]) if matched[track] else state for track, state in enumerate(states)]
        for track, (mean, covariance) in enumerate(states):
            np.testing.assert_allclose(motion[:8, track], mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(dense_covariance(motion, track), covariance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 30])
def test_a_step_of_n_equals_n_unit_steps(steps: int) -> None:
    kalman = KalmanFilter(CONFIG)
    motion = moving_tracks()
    motion[6] = 0  # the noise follows the height, so the height must rest for the two to be equal
    at_once, one_by_one = motion.copy(), motion.copy()
    kalman.predict(at_once, steps)
    for _ in range(steps):
        kalman.predict(one_by_one, 1.0)
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0.25, 0.75), (0.5, 0.5), (1.3, 2.9), (30 / 7, 30 / 7)])
def test_a_step_can_be_split_anywhere(first: float, second: float) -> None:
    kalman = KalmanFilter(CONFIG)
    motion = moving_tracks()
    motion[6] = 0
    whole, split = motion.copy(), motion.copy()
    kalman.predict(whole, first + second)
    kalman.predict(split, first)
    kalman.predict(split, second)
    np.testing.assert_allclose(whole, split, rtol=1e-12)


@pytest.mark.parametrize("steps", [1e-6, 0.1, 0.79, 1.0, 4.3, 1e3, 1e300])
def test_the_covariance_stays_positive_definite_after_any_step(steps: float) -> None:
    kalman = KalmanFilter(KalmanConfig(position_noise=0.01, velocity_noise=0.03))
    motion = moving_tracks()
    kalman.predict(motion, steps)
    kalman.update(motion, measurements(2), np.arange(TRACKS) % 2 == 0)
    assert np.isfinite(motion).all()
    position, cross, velocity = motion[8:].reshape(3, 2, -1)
    assert (position > 0).all()
    assert (velocity > 0).all()
    assert (position * velocity - cross**2 > 0).all()


def test_noises_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"position_noise 0\.001"):
        KalmanConfig(position_noise=0.001, velocity_noise=0.1)


def test_unmatched_tracks_do_not_change() -> None:
    motion = moving_tracks()
    before = motion.copy()
    KalmanFilter(CONFIG).update(motion, measurements(3), np.zeros(TRACKS, np.bool_))
    np.testing.assert_array_equal(motion, before)


def test_heights_stay_positive_however_far_they_are_extrapolated() -> None:
    motion = moving_tracks()
    motion[6] = -50
    KalmanFilter(CONFIG).predict(motion, 1000)
    assert (motion[2:4] > 0).all()
    boxes = to_boxes(motion)
    assert np.isfinite(boxes).all()


def test_boxes_are_centre_and_size() -> None:
    motion = KalmanFilter(CONFIG).initiate(np.array([[100.0], [50.0], [40.0], [0.5]]))
    assert to_boxes(motion).ravel().tolist() == [90, 30, 110, 70]


def test_no_tracks_are_fine() -> None:
    kalman = KalmanFilter(CONFIG)
    motion = kalman.initiate(np.empty((4, 0)))
    kalman.predict(motion, 1.0)
    kalman.update(motion, np.empty((4, 0)), np.empty(0, np.bool_))
    assert to_boxes(motion).shape == (4, 0)
