from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from motserve.config import TrustConfig
from motserve.reid.crops import at_border, cut_crops, overlap_share, trusted
from motserve.reid.device_crops import sample_crops
from motserve.types import Tracks


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def test_a_crop_is_the_part_of_the_picture_at_the_size_asked_for(image: np.ndarray) -> None:
    crops = cut_crops(image, boxes((10, 20, 42, 52), (0, 0, 80, 60)), 64, 16)
    assert crops.shape == (2, 64, 16, 3)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops[0], cv2.resize(image[20:52, 10:42], (16, 64), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_array_equal(crops[1], cv2.resize(image, (16, 64), interpolation=cv2.INTER_LINEAR))


def test_a_box_of_the_size_of_a_crop_is_copied(image: np.ndarray) -> None:
    np.testing.assert_array_equal(cut_crops(image, boxes((5, 6, 21, 38)), 32, 16)[0], image[6:38, 5:21])


def test_pixels_that_a_box_touches_belong_to_it(image: np.ndarray) -> None:
    np.testing.assert_array_equal(cut_crops(image, boxes((5.9, 6.9, 20.1, 37.1)), 32, 16)[0], image[6:38, 5:21])


def test_a_box_is_clipped_to_the_picture(image: np.ndarray) -> None:
    clipped, whole = cut_crops(image, boxes((-1000, -5, 16, 32), (0, 0, 16, 32)), 32, 16)
    np.testing.assert_array_equal(clipped, whole)
    clipped, whole = cut_crops(image, boxes((64, 28, 1e6, 1e6), (64, 28, 80, 60)), 32, 16)
    np.testing.assert_array_equal(clipped, whole)


@pytest.mark.parametrize("box", [(-50, 0, -10, 60), (80, 0, 99, 60), (0, 60, 80, 99), (0, -9, 80, 0), (30, 30, 20, 20)])
def test_a_box_without_a_pixel_of_the_picture_gives_black(
    image: np.ndarray, box: tuple[float, float, float, float]
) -> None:
    outside, inside = cut_crops(image, boxes(box, (0, 0, 80, 60)), 32, 16)
    assert not outside.any()
    assert inside.any()


def test_no_boxes_give_no_crops(image: np.ndarray) -> None:
    assert cut_crops(image, boxes(), 32, 16).shape == (0, 32, 16, 3)


def test_pictures_from_shared_memory_are_not_written_to(image: np.ndarray) -> None:
    before = image.copy()
    image.flags.writeable = False
    crops = cut_crops(image, boxes((0, 0, 40, 30)), 32, 16)
    crops[:] = 0
    np.testing.assert_array_equal(image, before)


def test_the_share_is_of_the_own_area() -> None:
    share = overlap_share(boxes((0, 0, 10, 10), (0, 0, 10, 40), (5, 0, 15, 10), (100, 0, 110, 10)))
    np.testing.assert_allclose(share, [1, 0.25, 0.5, 0])


def test_a_box_alone_or_with_a_touching_neighbour_is_not_covered() -> None:
    assert overlap_share(boxes()).shape == (0,)
    np.testing.assert_array_equal(overlap_share(boxes((0, 0, 9, 9))), [0])
    np.testing.assert_array_equal(overlap_share(boxes((0, 0, 9, 9), (9, 0, 18, 9))), [0, 0])


def tracks(*rows: tuple[float, float, float, float], scores: list[float] | None = None) -> Tracks:
    n = len(rows)
    ids = np.arange(1, n + 1)
    return Tracks(ids, boxes(*rows), np.array(scores or [1.0] * n, np.float32), np.zeros(n, np.int64), np.arange(n))


def test_the_border_is_a_share_of_each_side() -> None:
    rows = boxes((2, 50, 40, 90), (1, 50, 40, 90), (50, 50, 198, 90), (50, 50, 199, 90), (50, 1, 90, 60), (5, 5, 9, 99))
    assert at_border(rows, (200, 100), 0.009).tolist() == [False, True, False, True, False, False]
    assert at_border(rows, (200, 100), 0.0101).tolist() == [True, True, True, True, True, True]
    assert not at_border(rows, None, 0.5).any()


def test_the_conditions_of_a_trusted_crop() -> None:
    config = TrustConfig(min_height=40, min_confidence=0.5, max_overlap=0.25, border=0.01)
    good, small, low_confidence, occluded, cut = (
        (50, 50, 70, 95),
        (90, 50, 95, 85),
        (120, 50, 140, 95),
        (67, 50, 75, 95),
        (0, 5, 9, 60),
    )
    rows = tracks(good, small, low_confidence, occluded, cut, scores=[1, 1, 0.4, 1, 1])
    assert trusted(rows, config, (200, 100)).tolist() == [True, False, False, False, False]
    assert trusted(rows, config, None).tolist() == [True, False, False, False, True]
    assert trusted(tracks(), config, (200, 100)).shape == (0,)


# --- on the device ----------------------------------------------------------------------------------------------------

ROUNDING = 0.8
"""Half of it is that OpenCV rounds values, the rest that it rounds weights, to 1 / 2048, in pictures of pure noise."""

ANY_BOXES = boxes(
    (10, 20, 42, 52),  # wider and taller than the crop, smaller, a single pixel, of the crop's own size
    (3.2, 4.7, 9.1, 13.3),
    (30, 30, 31, 31),
    (5, 6, 21, 38),
    (-1000, -5, 16, 32),
    (64, 28, 1e6, 1e6),
    (0, 0, 80, 60),
    (79.5, 59.5, 80, 60),
    (-50, 0, -10, 60),
    (0, 60, 80, 99),
    (30, 30, 20, 20),
)


@pytest.mark.parametrize("size", [(32, 16), (64, 32), (7, 5)])
@pytest.mark.parametrize("shape", [(60, 80), (1, 80), (60, 1)])
def test_crops_cut_on_the_device_are_those_of_opencv(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = cut_crops(image, ANY_BOXES, *size).transpose(0, 3, 1, 2).astype(np.float32)
    found = sample_crops(torch.from_numpy(image), ANY_BOXES, *size).numpy()
    assert found.shape == (len(ANY_BOXES), 3, *size)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < ROUNDING
    assert not found[8:].any()


def test_pixels_outside_a_box_do_not_affect_its_crop() -> None:
    image = np.full((60, 80, 3), 255, np.uint8)
    image[20:30, 10:15] = 7
    crops = sample_crops(torch.from_numpy(image), boxes((10, 20, 15, 30)), 64, 32)
    torch.testing.assert_close(crops, torch.full((1, 3, 64, 32), 7.0), atol=1e-3, rtol=0)


def test_large_pictures_are_cut_as_exactly() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2160, 3840, 3), np.uint8)
    corner = boxes((3700, 1900, 3828, 2156), (3710.5, 1801.5, 3801, 2100))
    found = sample_crops(torch.from_numpy(image), corner, 256, 128).numpy()
    expected = cut_crops(image, corner, 256, 128).transpose(0, 3, 1, 2).astype(np.float32)
    assert np.abs(found - expected).max() < ROUNDING


def test_no_boxes_give_no_crops_on_the_device(image: np.ndarray) -> None:
    assert sample_crops(torch.from_numpy(image), boxes(), 32, 16).shape == (0, 3, 32, 16)
