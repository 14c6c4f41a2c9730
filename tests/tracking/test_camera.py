from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from motserve.config import CameraConfig
from motserve.tracking.camera import CameraMotion
from motserve.types import FloatArray, Image

NO_BOXES = np.empty((0, 4), np.float32)
FULL_SIZE = CameraConfig(downscale=1)


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
    matrix = np.asarray(cv2.getRotationMatrix2D((240, 180), degrees, scale), np.float64)
    matrix[:, 2] += (x, y)
    return matrix


def squares(left: int, top: int) -> Image:
    """Two white squares on black, which have eight corners."""
    picture = np.zeros((180, 320, 3), np.uint8)
    for start in (left, left + 100):
        picture[top : top + 60, start : start + 60] = 255
    return picture


def corners_of(camera: CameraMotion) -> list[list[float]]:
    corners: list[list[float]] = sorted(camera.state_dict()["corners"].reshape(-1, 2).tolist())
    return corners


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


def test_the_pixels_at_the_edge_of_a_box_belong_to_it() -> None:
    """The first square's corners are the pixels at x = 60 and 119, y = 60 and 119."""
    first = [[60, 60], [60, 119], [119, 60], [119, 119]]
    for box, expected in (
        ([0, 0, 59, 180], first),
        ([0, 0, 60, 180], first[2:]),
        ([0, 0, 110, 59], first),
        ([0, 0, 110, 60], first[1:]),
        ([-20, -10, 60, 60], first[1:]),
        ([119, 119, 130, 130], first[:3]),
        ([120, 120, 130, 130], first),
    ):
        camera = CameraMotion(FULL_SIZE)
        camera.advance(squares(60, 60), np.array([box], np.float32))
        assert [corner for corner in corners_of(camera) if corner[0] < 150] == expected


def test_boxes_at_the_bottom_of_a_tall_picture_count() -> None:
    tall = np.ascontiguousarray(squares(60, 60).transpose(1, 0, 2))
    camera = CameraMotion(FULL_SIZE)
    camera.advance(tall, np.array([[50, 150, 130, 230]], np.float32))
    assert corners_of(camera) == [[60, 60], [60, 119], [119, 60], [119, 119]]


def test_eight_corners_are_enough_and_seven_are_not() -> None:
    camera = CameraMotion(FULL_SIZE)
    camera.advance(squares(60, 60), NO_BOXES)
    estimated = camera.advance(squares(63, 62), np.array([[55, 55, 65, 65]], np.float32))
    assert estimated is not None
    np.testing.assert_allclose(estimated, [[1, 0, 3], [0, 1, 2]], atol=0.01)
    assert len(corners_of(camera)) == 7
    assert camera.advance(squares(66, 64), NO_BOXES) is None


def test_no_more_corners_are_used_than_configured() -> None:
    camera = CameraMotion(CameraConfig(corners=20))
    camera.advance(camera_view(world(), motion_matrix(0, 1, 0, 0)), NO_BOXES)
    assert len(corners_of(camera)) == 20


@pytest.mark.parametrize("shift", [2, 3])
def test_a_reduced_picture_has_no_aliases_of_a_fine_texture(shift: int) -> None:
    """The texture is finer than a pixel of the reduced picture, which has to be the mean of all that it covers."""
    grain = np.random.default_rng(5).integers(0, 255, (360, 600), np.uint8)
    texture = cv2.equalizeHist(cv2.GaussianBlur(grain, (0, 0), 1))
    camera = CameraMotion(CameraConfig(downscale=6))
    for left in (0, shift):
        picture = np.asarray(texture[:, left : left + 560, None], np.uint8).repeat(3, axis=2)
        estimated = camera.advance(picture, NO_BOXES)
    assert estimated is not None
    np.testing.assert_allclose(estimated[:, 2], [-shift, 0], atol=0.2)


def test_a_small_patch_of_fine_texture_does_not_get_all_corners() -> None:
    """Leaves move in front of a wall of tiles; each of their pixels is a stronger corner than those of the tiles."""
    random = np.random.default_rng(0)
    tiles = random.integers(0, 128, (24, 32), np.uint8).repeat(15, axis=0).repeat(15, axis=1)
    leaves = random.integers(0, 255, (50, 50), np.uint8)
    camera = CameraMotion(CameraConfig(downscale=1, corners=100))
    for left in (100, 106):
        picture = tiles.copy()
        picture[100:150, left : left + 50] = leaves
        estimated = camera.advance(picture[:, :, None].repeat(3, axis=2), NO_BOXES)
    assert estimated is not None
    np.testing.assert_allclose(estimated, [[1, 0, 0], [0, 1, 0]], atol=0.1)


def test_a_picture_narrower_than_the_reduction_has_no_corners() -> None:
    for height, width in ((360, 5), (5, 360), (1, 1)):
        camera = CameraMotion(CameraConfig(downscale=16))
        picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        for _ in range(2):
            assert corners_of(camera) == []
            assert camera.advance(picture, NO_BOXES) is None


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
    people = np.array(
        [[-100, -100, 50, 50], [450, 300, 9000, np.inf], [440, 310, np.inf, 360], [-9000, 0, -8000, 10]], np.float32
    )
    assert camera.advance(still, people) is None
    assert camera.advance(still, people) is not None


@pytest.mark.parametrize("before", [[], ["still"], ["black"], ["still", "moved"]])
def test_a_restored_state_has_the_same_future(before: list[str]) -> None:
    pictures = {
        "still": camera_view(world(), motion_matrix(0, 1, 0, 0)),
        "moved": camera_view(world(), motion_matrix(1, 1, 4, 3)),
    }
    pictures["black"] = np.zeros_like(pictures["still"])
    original, restored = CameraMotion(CameraConfig()), CameraMotion(CameraConfig())
    for name in before:
        original.advance(pictures[name], NO_BOXES)
    restored.advance(camera_view(world(3), motion_matrix(0, 1, 0, 0)), NO_BOXES)
    state = original.state_dict()
    restored.load_state_dict(state)
    answers = [[camera.advance(pictures["moved"], NO_BOXES) for _ in range(2)] for camera in (original, restored)]
    assert [answer is None for answer in answers[0]] == ["still" not in before, False]
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    restored.load_state_dict(state)
    for name, values in restored.state_dict().items():
        np.testing.assert_array_equal(values, state[name], err_msg="a saved state changes no more")


@pytest.mark.parametrize("key", ["before", "corners"])
@pytest.mark.parametrize("values", [None, np.zeros((3, 1, 2)), np.zeros((3, 1, 3), np.float32), np.zeros(3, np.uint8)])
def test_a_foreign_state_is_refused_and_changes_nothing(key: str, values: NDArray[np.generic] | None) -> None:
    still = camera_view(world(), motion_matrix(0, 1, 0, 0))
    camera = CameraMotion(CameraConfig())
    camera.advance(still, NO_BOXES)
    state = {name: array for name, array in camera.state_dict().items() if name != key}
    state.update({} if values is None else {key: values})
    with pytest.raises(ValueError, match=key):
        camera.load_state_dict(state)
    assert camera.advance(still, NO_BOXES) is not None
