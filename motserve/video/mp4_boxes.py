"""Checks the boxes of an MP4 before FFmpeg, which allocates memory for every sample that a header declares.

A few bytes can declare any number of samples. FFmpeg lists them all, at about 70 bytes each, before it reads one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo

_FIRST = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"pnot"})
_PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_MOST_BOXES = 5_000_000  # as in hours of single-frame fragments
_SIZE_PRESENT = 0x200  # flag of a run of samples: each has its own size


def refuse_false_samples(path: Path, config: VideoConfig, name: str) -> None:
    """Refuse an MP4 that declares more samples than it can contain, or more frames than are accepted.

    Args:
        path: The file; any other container passes.
        config: Limits.
        name: Name of the video in messages.

    Raises:
        InvalidVideo: It declares too much, or its header is compressed, so that a few bytes can declare anything.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4)
        if file.read(4) not in _FIRST:
            return
        tracks = [_Track()]
        fragments = 0
        for number, (kind, content) in enumerate(_boxes(file, 0, size)):
            if number == _MOST_BOXES:
                break
            track = tracks[-1]
            first, second = int.from_bytes(content[4:8], "big"), int.from_bytes(content[8:12], "big")
            if kind == b"hdlr":
                tracks.append(_Track(handler=content[8:12]))
            elif kind == b"stts":
                track.is_counted = track.is_counted and first == 1 and content[12:16] == b"\0\0\0\1"
            elif kind == b"stsz":
                track.samples, track.bytes = max(track.samples, second), max(track.bytes, first * second)
            elif kind == b"trun" and not int.from_bytes(content[1:4], "big") & _SIZE_PRESENT:
                fragments += first
            elif kind == b"cmov":
                raise InvalidVideo(
                    f"{name} has a compressed header, which is not supported; rewrite it with `ffmpeg -c copy`"
                )
    for track in tracks:
        if track.handler == b"vide" and track.samples > config.max_frames:
            raise InvalidVideo(f"{name} has more than {config.max_frames} frames, the limit (video.max_frames)")
        if track.bytes > size and (track.handler != b"soun" or not track.is_counted):
            raise InvalidVideo(f"{name} is broken: it declares {track.samples} samples, more than it has bytes for")
    if fragments > size:
        raise InvalidVideo(f"{name} is broken: it declares {fragments} samples, more than it has bytes for")


@dataclass(slots=True)
class _Track:
    """Declared samples of a track.

    Attributes:
        handler: Kind of the track.
        samples: Number of samples.
        bytes: Total size of the samples, if all have the same size.
        is_counted: Whether each sample lasts one tick. Old files with compressed sound declare more such samples than
            they have bytes, and FFmpeg does not list them.
    """

    handler: bytes = b""
    samples: int = 0
    bytes: int = 0
    is_counted: bool = True


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and first bytes of each box without children, in order."""
    ends = [end]
    while ends:
        if at + 8 > ends[-1]:
            at = ends.pop()
            continue
        file.seek(at)
        head = file.read(32)
        length, kind, start = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = ends[-1] - at
        if length < start:
            at = ends.pop()
        elif kind in _PARENTS:
            ends.append(min(at + length, ends[-1]))
            at += start
        else:
            yield kind, head[start:]
            at += length
