"""Checks by the structure of a container whether a file is complete although its header declares more.

The header of a complete file may declare too much: a recorder wrote the expected length, or an editor cut the video
and kept the header. Containers consist of elements with a stated size, so a truncated file ends inside an element.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_MOST_ELEMENTS = 2_000_000  # as in live recordings of many hours
_EBML_SEGMENT, _EBML_CLUSTER = 0x18538067, 0x1F43B675
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1
_FLV_TAG = 11  # bytes of the head of a tag
_IVF_HEAD, _IVF_FRAME = 32, 12  # bytes of the head of the file and of that of a frame
_UNWRITTEN = 4096  # zeros at the end: a block that was reserved, and never written or downloaded


def is_cut_off(path: Path, container: str) -> bool:
    """Return whether a file ends inside an element of its container, or in zeros where data should be.

    Args:
        path: The file.
        container: FFmpeg's name of the container.

    Returns:
        True also where the structure is unknown, because the header declares more than the file has.

    Raises:
        OSError: The file cannot be read.
    """
    checks = {
        "matroska": _matroska_is_whole,
        "avi": _avi_is_whole,
        "flv": _flv_is_whole,
        "asf": _asf_is_whole,
        "ivf": _ivf_is_whole,
    }
    check = checks.get(container.partition(",")[0])
    if check is None:
        return True
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _UNWRITTEN))
        if not any(file.read()):
            return True
        file.seek(0)
        try:
            return not check(file, size)
        except (ValueError, IndexError):
            return True


def fragment_is_cut_off(path: Path) -> bool:
    """Return whether an MP4 that is written in fragments ends inside one.

    No index says how many fragments there should be, so a file that ends between two cannot be recognised.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        at, is_fragmented = 0, False
        for _ in range(_MOST_ELEMENTS):
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            is_fragmented |= kind == b"moof"
            if at + length >= size or length < 8:
                return is_fragmented and at + length > size and kind in (b"moof", b"mdat")
            at += length
    return False


def _matroska_is_whole(file: BinaryIO, size: int) -> bool:
    """Check the elements one by one; the children of a segment or cluster of unknown size too."""
    at = elements = 0
    while at < size:
        if (elements := elements + 1) > _MOST_ELEMENTS:
            raise ValueError("too many elements")
        file.seek(at)
        head = file.read(12)
        id_length = _vint_length(head, 0)
        length_length = _vint_length(head, id_length)
        element = int.from_bytes(head[:id_length], "big")
        at += id_length + length_length
        mask = (1 << 7 * length_length) - 1
        length = int.from_bytes(head[id_length : id_length + length_length], "big") & mask
        if length == mask:
            if element not in (_EBML_SEGMENT, _EBML_CLUSTER):
                raise ValueError("an element of unknown size without children")
            continue
        at += length
    return at == size


def _vint_length(head: bytes, at: int) -> int:
    length = 9 - head[at].bit_length()
    if length > 8 or at + length > len(head):
        raise ValueError("not an EBML number")
    return length


def _avi_is_whole(file: BinaryIO, size: int) -> bool:
    """Check the RIFF chunks; a large file has several."""
    at = chunks = 0
    while at + 8 <= size:
        if (chunks := chunks + 1) > _MOST_ELEMENTS:
            raise ValueError("too many chunks")
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            break  # bytes after the last chunk
        at += 8 + int.from_bytes(head[4:], "little")
    return 0 < at <= size + 1  # a chunk of odd length may lack its padding byte


def _flv_is_whole(file: BinaryIO, size: int) -> bool:
    """Check that the file ends with a tag and the size of that tag."""
    if size < _FLV_TAG + 4:
        return False
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    if not _FLV_TAG <= length <= size - 4:
        return False
    file.seek(size - 4 - length)
    return int.from_bytes(file.read(4)[1:], "big") == length - _FLV_TAG


def _asf_is_whole(file: BinaryIO, size: int) -> bool:
    """Compare with the size in the header, unless it was written for a broadcast, whose size is unknown."""
    head = file.read(1 << 16)
    at = head.index(_ASF_PROPERTIES)
    if head[at + 88] & _ASF_BROADCAST:
        return True
    return int.from_bytes(head[at + 40 : at + 48], "little") <= size


def _ivf_is_whole(file: BinaryIO, size: int) -> bool:
    """Walk from frame to frame."""
    at = _IVF_HEAD
    for _ in range(_MOST_ELEMENTS):
        if at >= size:
            return at == size
        file.seek(at)
        at += _IVF_FRAME + int.from_bytes(file.read(4), "little")
    raise ValueError("too many frames to search")
