"""Reads the size of a JPEG or PNG file and checks that it is complete, without decoding it.

OpenCV offers neither, and silently decodes truncated files to partly grey images.
"""

from __future__ import annotations

import io
from typing import BinaryIO, Final

IMAGE_SUFFIXES: Final = (".jpeg", ".jpg", ".png")
"""Suffixes of supported images, in lower case."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
_JPEG_SCAN: Final = 0xDA
# Start-of-frame markers of JPEG, which contain the size; C4, C8 and CC are other markers.
_JPEG_SIZE_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The header of nearly every JPEG file is shorter; a preview or a colour profile may make it longer.
_HEAD_BYTES: Final = 1 << 16
_TAIL_BYTES: Final = 64


def image_size(data: bytes) -> tuple[int, int] | None:
    """Read width and height from a whole JPEG or PNG file. Bytes after its end are ignored, as in decoders.

    Returns:
        Width and height in pixels; None if the data is neither or is truncated.
    """
    return _png_size(io.BytesIO(data), len(data)) if data.startswith(_PNG) else _jpeg_size(data)


def image_file_size(file: BinaryIO, length: int) -> tuple[int, int] | None:
    """Do the same as `image_size`, without reading the pixels of usual files.

    Args:
        file: The file, at its beginning.
        length: Its length in bytes.
    """
    head = file.read(_HEAD_BYTES)
    if head.startswith(_PNG):
        return _png_size(file, length)
    if len(head) >= length:
        return _jpeg_size(head)
    file.seek(max(_HEAD_BYTES, length - _TAIL_BYTES))
    size = _jpeg_size(head + file.read())
    if size is None:
        file.seek(0)
        size = _jpeg_size(file.read())
    return size


def _png_size(file: BinaryIO, length: int) -> tuple[int, int] | None:
    """Read the chunks: each has a length, type, data and checksum, and the last is `IEND`."""
    size: tuple[int, int] | None = None
    has_pixels = False
    at = len(_PNG)
    while at + 12 <= length:
        file.seek(at)
        head = file.read(8)
        count, kind = int.from_bytes(head[:4], "big"), head[4:]
        if size is None:
            if kind != b"IHDR" or count != 13:
                return None
            size = int.from_bytes(file.read(4), "big"), int.from_bytes(file.read(4), "big")
        at += 12 + count
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            return size if has_pixels and at <= length and min(size) > 0 else None
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read the segments up to the first scan; the pixel data after it cannot contain the end marker by chance."""
    if not data.startswith(_JPEG):
        return None
    size: tuple[int, int] | None = None
    at = len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _JPEG_SCAN:
            return size if data.find(_JPEG_END, at) > 0 else None
        if marker in _JPEG_SIZE_MARKERS:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            size = (width, height)
        # A marker may be preceded by any number of fill bytes.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
