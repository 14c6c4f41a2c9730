"""Rotates frames upright by the display matrix that cameras write into their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from motserve.types import Image

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from typing_extensions import Buffer


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight orientations of a frame: swap its axes first, then mirror.

    Attributes:
        swap: Rows become columns.
        flip_x: Mirror left and right, after the swap.
        flip_y: Mirror top and bottom, after the swap.
    """

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, picture: VideoFrame) -> Orientation:
        """Read the display matrix of a decoded frame; without one the frame is upright.

        The matrix holds 3 x 3 int32; with `a b / c d` in its corner, a source point goes to
        `(a x + c y, b x + d y)`, y pointing down (ISO/IEC 14496-12). Other angles are rounded to a right angle.
        """
        data = picture.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        (a, b, _), (c, d, _), _ = np.frombuffer(bytes(cast("Buffer", data)), np.int32, count=9).reshape(3, 3).tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of a frame after the rotation.

        >>> Orientation(swap=True).size(640, 480)
        (480, 640)
        """
        return (height, width) if self.swap else (width, height)

    def apply(self, image: Image) -> Image:
        """Return the frame upright and contiguous; the same array if no rotation is needed."""
        if self.swap:
            image = cast("Image", cv2.transpose(image))
        if self.flip_x or self.flip_y:
            image = cast("Image", cv2.flip(image, -1 if self.flip_x and self.flip_y else int(self.flip_x)))
        return image
