"""Camera motion between two frames, from background corners tracked by optical flow.

Reference: Aharon, Orfaig and Bobrovsky, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022, section 3.2;
Lucas and Kanade, "An Iterative Image Registration Technique", 1981; Shi and Tomasi, "Good Features to Track", 1994.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.base import State, load_array
from motserve.config import CameraConfig
from motserve.types import FloatArray, Image

_QUALITY = 0.01  # of a corner, as a share of the best one's
_MIN_CORNER_DISTANCE = 7.0  # pixels of the reduced picture between two corners
_MIN_CORNERS = 8  # fewer reflect noise rather than the camera
_MIN_INLIER_SHARE = 0.3  # of the corners that must agree; otherwise an object moved, not the camera


class CameraMotion:
    """Estimates the motion of one video's camera. Call `advance` for every frame, in order.

    Args:
        config: Reduction and number of corners.
    """

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self._before = np.empty((0, 0), np.uint8)  # the previous frame, reduced
        self._corners = np.empty((0, 1, 2), np.float32)

    def advance(self, image: Image, people: FloatArray) -> NDArray[np.float64] | None:
        """Process a frame.

        Args:
            image: The picture.
            people: `(n, 4)` float32, boxes of people in it, xyxy in pixels; corners inside them are ignored.

        Returns:
            `(2, 3)` float64, map from pixels of the previous frame to pixels of this one: rotation, scale and shift;
            None in the first frame, after a cut, or where too little of the background is visible.
        """
        grey = self._reduce(image)
        matrix = None
        if self._before.shape == grey.shape and self._corners.size:
            matrix = self._estimate(self._before, grey, self._corners)
        self._before, self._corners = grey, self._find_corners(grey, people)
        return matrix

    def state_dict(self) -> State:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        return {"before": self._before.copy(), "corners": self._corners.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        self._before, self._corners = (
            load_array(state, "before", np.uint8, -1, -1),
            load_array(state, "corners", np.float32, -1, 1, 2),
        )

    def _reduce(self, image: Image) -> NDArray[np.uint8]:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        height, width = grey.shape
        factor = self._config.downscale
        if factor > 1:
            size = (max(1, width // factor), max(1, height // factor))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return np.asarray(grey, np.uint8)

    def _find_corners(self, grey: NDArray[np.uint8], people: FloatArray) -> NDArray[np.float32]:
        mask = np.full(grey.shape, 255, np.uint8)
        limits = np.array([grey.shape[1], grey.shape[0]] * 2)
        boxes = np.clip(people / self._config.downscale, 0, limits)
        for left, top, right, bottom in boxes.astype(np.int64).tolist():
            mask[top : bottom + 1, left : right + 1] = 0
        corners = cv2.goodFeaturesToTrack(grey, self._config.corners, _QUALITY, _MIN_CORNER_DISTANCE, mask=mask)
        return np.empty((0, 1, 2), np.float32) if corners is None else np.asarray(corners, np.float32)

    def _estimate(
        self, before: NDArray[np.uint8], after: NDArray[np.uint8], corners: NDArray[np.float32]
    ) -> NDArray[np.float64] | None:
        moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)  # type: ignore[call-overload]
        is_tracked = status.ravel() == 1
        if np.count_nonzero(is_tracked) < _MIN_CORNERS:
            return None
        matrix, inliers = cv2.estimateAffinePartial2D(corners[is_tracked], moved[is_tracked], method=cv2.RANSAC)
        if matrix is None or np.count_nonzero(inliers) < max(_MIN_CORNERS, _MIN_INLIER_SHARE * len(corners)):
            return None
        result = np.array(matrix, np.float64)
        result[:, 2] *= self._config.downscale
        return result
