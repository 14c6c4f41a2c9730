from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from motserve.config import CameraConfig
from motserve.tracking.camera import CameraMotion
from motserve.types import FloatArray, Image

NO_BOXES = np.empty((0, 4), np.float32)


def world(seed: int = 0, side: int = 900) -> Image:
    """A picture with corners everywhere."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (side // 15, side // 15, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def camera_view(picture: Image, matrix: NDArray[np.float64], width: int = 480, height: int = 360) -> Image:
    """Return the picture of a camera that shows the middle of a world moved by a matrix."""
    middle = np.array([[1.0, 0, -200], [0, 1, -200], [0, 0, 1]])
    moved = np.vstack([matrix, [0, 0, 1]]) @ middle
    return np.asarray(cv2.warpAffine(picture, moved[:2], (width, height)), np.uint8)


def motion_matrix(degrees: float, scale: float, x: float, y: float) -> NDArray[np.float64]:
    matrix = cv2.getRotationMatrix2D((240, 180), degrees, scale)
    matrix[:, 2] += x, y
    return np.asarray(matrix, np.float64)


@pytest.mark.parametrize("downscale", [1, 2, 3])
@pytest.mark.parametrize("motion", [(0, 1, 6, -4), (2, 1, 0, 0), (0, 1.03, 3, 2), (-1, 0.98, -8, 5)])
def test_shift_rotation_and_zoom_are_estimated(motion: tuple[float, float, float, float], downscale: int) -> None:
    matrix = motion_matrix(*motion)
    camera = CameraMotion(CameraConfig(downscale=downscale))
    assert camera.advance(camera_view(world(), motion_matrix(0, 1, 0, 0)), NO_BOXES) is None
    estimated = camera.advance(camera_view(world(), matrix), NO_BOXES)
    assert estimated is not None
    corners = np.array([[0, 480, 0, 480], [0, 0, 360, 360], [1, 1, 1, 1]])
    np.testing.assert_allclose(estimated @ corners, matrix @ corners, atol=1.0)


def test_walking_people_are_not_mistaken_for_camera_motion() -> None:
    """Most of the corners are on a person who walks to the right in front of a static background."""
    background = cv2.GaussianBlur(camera_view(world(1), motion_matrix(0, 1, 0, 0)), (0, 0), 2)
    person = world(2, 300)[:300, :280]

    def frame(left: int) -> tuple[Image, FloatArray]:
        picture = background.copy()
        picture[30:330, left : left + 280] = person
        return picture, np.array([[left, 30, left + 280, 330]], np.float32)

    told, blind = CameraMotion(CameraConfig()), CameraMotion(CameraConfig())
    for left in (60, 72):
        picture, people = frame(left)
        estimated, mistaken = told.advance(picture, people), blind.advance(picture, NO_BOXES)
    assert estimated is not None
    np.testing.assert_allclose(estimated, [[1, 0, 0], [0, 1, 0]], atol=1.5)
    assert mistaken is not None
    assert mistaken[0, 2] > 5, "without boxes the person would be taken for the world"


def test_a_cut_another_size_or_a_blank_picture_give_no_motion() -> None:
    camera = CameraMotion(CameraConfig())
    still = camera_view(world(), motion_matrix(0, 1, 0, 0))
    black = np.zeros_like(still)
    for picture in (
        still,
        camera_view(world(7), motion_matrix(0, 1, 0, 0)),
        still[:200, :300].copy(),
        black,
        black,
        still,
    ):
        assert camera.advance(picture, NO_BOXES) is None
    assert camera.advance(still, NO_BOXES) is not None


def test_boxes_beyond_the_picture_are_accepted() -> None:
    camera = CameraMotion(CameraConfig())
    still = camera_view(world(), motion_matrix(0, 1, 0, 0))
    people = np.array([[-100, -100, 50, 50], [450, 300, 9000, 9000], [-9000, 0, -8000, 10]], np.float32)
    assert camera.advance(still, people) is None
    assert camera.advance(still, people) is not None
