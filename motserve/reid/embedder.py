"""What all embedders here have in common: they know the size of their crops, so they can cut them themselves."""

from __future__ import annotations

from abc import abstractmethod

from motserve.base import ReIDBase
from motserve.reid.crops import cut_crops
from motserve.types import FloatArray, Image


class CropEmbedder(ReIDBase):
    """An embedder that also takes a picture and boxes in it, and says where it runs."""

    @property
    @abstractmethod
    def crop_size(self) -> tuple[int, int]:
        """Height and width in pixels of the crops that the network looks at."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Where the network runs, such as `cpu` or `cuda:0`."""

    def embed_boxes(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Embed what is in boxes of a picture.

        Args:
            image: `(H, W, 3)` uint8 BGR.
            boxes: `(n, 4)` float32 xyxy in pixels; clipped to the picture, black where they lie outside of it.

        Returns:
            `(n, dimension)` float32, each row of unit length.
        """
        return self.embed(cut_crops(image, boxes, *self.crop_size))
