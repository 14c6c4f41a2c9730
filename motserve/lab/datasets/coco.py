"""Writes COCO annotations of people, box by box, so that memory does not grow with the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

PERSON = 1
"""The category of every annotation."""


class Sink(Protocol):
    """A binary file to write to."""

    def write(self, data: bytes, /) -> object:
        """Write the next bytes."""


class CocoWriter:
    """One file of annotations; pictures and annotations are numbered from 1.

    pycocotools reads the number 0 as "no match".

    Args:
        sink: File to write to.
        description: Description of the data set.
    """

    def __init__(self, sink: Sink, description: str) -> None:
        self._sink = sink
        self._images: list[bytes] = []
        self._annotations = 0
        sink.write(b'{"info":' + orjson.dumps({"description": description}) + b',"annotations":[')

    def picture(self, file_name: str, width: int, height: int, **more: Any) -> int:
        """Add a picture and return its number.

        Args:
            file_name: Relative to the folder of the split's pictures.
            width: In pixels.
            height: In pixels.
            **more: Further keys of its entry.
        """
        number = len(self._images) + 1
        entry = {"id": number, "file_name": file_name, "width": width, "height": height, **more}
        self._images.append(orjson.dumps(entry))
        return number

    def annotation(self, picture: int, box: Sequence[float], ignored: bool, **more: Any) -> None:
        """Add a box.

        Args:
            picture: Number of the picture.
            box: Left, top, width and height in pixels, origin 0; may reach beyond the picture.
            ignored: Whether a detection of it counts neither as right nor as wrong. pycocotools reads this from
                `iscrowd`, other tools from `ignore`.
            **more: Further keys of its entry.
        """
        self._annotations += 1
        flag = int(ignored)
        entry = {
            "id": self._annotations,
            "image_id": picture,
            "category_id": PERSON,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": flag,
            "ignore": flag,
            **more,
        }
        self._sink.write((b"," if self._annotations > 1 else b"") + orjson.dumps(entry))

    def finish(self) -> None:
        """Write the rest of the file: pictures and categories."""
        categories = orjson.dumps([{"id": PERSON, "name": "person"}])
        self._sink.write(b'],"images":[' + b",".join(self._images) + b'],"categories":' + categories + b"}\n")
