"""What happens to files: they are cut off, damaged, begin amid a stream, or have headers that are wrong."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import av

from corpus.row import Edit


def truncate(share: float) -> Edit:
    """Keep the first part of a file."""

    def edit(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return edit


def prefix(data: bytes) -> Edit:
    """Put bytes in front."""
    return lambda path: _write(path, data + path.read_bytes())


def suffix(data: bytes) -> Edit:
    """Put bytes behind."""
    return lambda path: _write(path, path.read_bytes() + data)


def cut_front(share: float) -> Edit:
    """Drop the first part of a file: a recording that begins amid a broadcast."""
    return lambda path: _write(path, path.read_bytes()[int(share * path.stat().st_size) :])


def zero(at: float, length: int) -> Edit:
    """Overwrite bytes with zeros: a block that a disk has lost."""

    def edit(path: Path) -> None:
        data = bytearray(path.read_bytes())
        start = int(at * len(data))
        data[start : start + length] = bytes(len(data[start : start + length]))
        path.write_bytes(data)

    return edit


def garble(*samples: int, skip: int = 0) -> Edit:
    """Overwrite whole samples of the first video stream with random bytes; negative ones count from the last.

    Args:
        samples: Numbers of the samples in the order of the file.
        skip: Bytes of each that stay.
    """

    def edit(path: Path) -> None:
        with av.open(str(path)) as container:
            places = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]
        data = bytearray(path.read_bytes())
        for number in samples:
            pos, size = places[number]
            data[pos + skip : pos + size] = random.Random(number).randbytes(size - skip)
        path.write_bytes(data)

    return edit


def replace(old: bytes, new: bytes, count: int = 1) -> Edit:
    """Replace bytes; those of the same length keep all offsets right.

    Raises:
        ValueError: The file does not have them.
    """

    def edit(path: Path) -> None:
        data = path.read_bytes()
        if old not in data:
            raise ValueError(f"{path.name} does not hold {old!r}")
        path.write_bytes(data.replace(old, new, count))

    return edit


def drop_chunk(name: bytes) -> Edit:
    """Drop the last chunk of an AVI, such as its index."""

    def edit(path: Path) -> None:
        data = path.read_bytes()
        at = data.rindex(name)
        path.write_bytes(data[:4] + struct.pack("<I", at - 8) + data[8:at])

    return edit


def empty_samples(*samples: int) -> Edit:
    """Make samples of an MP4 empty whose samples all lie in one chunk in front of the index."""

    def edit(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = data.index(b"stsz") + 4
        if data[at + 4 : at + 8] != bytes(4):
            raise ValueError(f"{path.name} has samples of one size")
        start = int.from_bytes(data[(chunks := data.index(b"stco") + 12) : chunks + 4], "big")
        sizes = struct.unpack_from(f">{struct.unpack_from('>I', data, at + 8)[0]}I", data, at + 12)
        for number in sorted(samples, reverse=True):
            struct.pack_into(">I", data, at + 12 + 4 * number, 0)
            first = start + sum(sizes[:number])
            del data[first : first + sizes[number]]
            at -= sizes[number]
        media = data.index(b"mdat") - 4
        struct.pack_into(">I", data, media, struct.unpack_from(">I", data, media)[0] - sum(sizes[n] for n in samples))
        path.write_bytes(data)

    return edit


def patch(after: bytes, offset: int, new: bytes) -> Edit:
    """Overwrite bytes at a distance behind the first place of a mark.

    Raises:
        ValueError: The file does not have the mark.
    """

    def edit(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = data.index(after) + len(after) + offset
        data[at : at + len(new)] = new
        path.write_bytes(data)

    return edit


def drop_stamps(first: int) -> Edit:
    """Take the timestamps from the first pictures of a transport stream."""

    def edit(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = -1
        for _ in range(first):
            at = data.index(b"\x00\x00\x01\xe0", at + 1)
            data[at + 7] &= 0x3F
        path.write_bytes(data)

    return edit


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    """Return the matrix that an MP4 states for the picture of a track."""
    return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


def both(first: Edit, second: Edit) -> Edit:
    """Do one thing, then the other."""

    def edit(path: Path) -> None:
        first(path)
        second(path)

    return edit


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
