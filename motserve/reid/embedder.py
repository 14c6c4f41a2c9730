"""Base class of the embedders: they know their crop size, so they can cut crops themselves."""

from __future__ import annotations

from abc import abstractmethod

from motserve.base import ReIDBase
from motserve.reid.crops import cut_crops
from motserve.types import FloatArray, Image


class CropEmbedder(ReIDBase):
    """An embedder that can also embed boxes of a picture, and that states its device."""

    @property
    @abstractmethod
    def crop_size(self) -> tuple[int, int]:
        """Height and width in pixels of the network's input."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Where the network runs, such as `cpu` or `cuda:0`."""

    def embed_boxes(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Embed boxes of a picture.

        Args:
            image: `(H, W, 3)` uint8 BGR.
            boxes: `(n, 4)` float32 xyxy in pixels; clipped to the picture, black where they lie outside of it.

        Returns:
            `(n, dimension)` float32, each row of unit length.
        """
        return self.embed(cut_crops(image, boxes, *self.crop_size))
