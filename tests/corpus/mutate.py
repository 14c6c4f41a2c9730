"""Damages the bytes of a file in ways that broken disks, cut transfers and hostile senders do."""

from __future__ import annotations

import random
from collections.abc import Callable

_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE)
_HEAD = 4096  # headers are at one of the ends


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy of a file.

    Args:
        data: The file.
        other: Another file, whose parts may be put into it.
        rng: Decides what happens; the same state gives the same bytes.
    """
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        if len(changed) < 16:
            break
        rng.choice(_MUTATIONS)(changed, other, rng)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    where = rng.random()
    if where < 0.4:
        return rng.randrange(min(_HEAD, len(data)))
    if where < 0.6:
        return len(data) - 1 - rng.randrange(min(_HEAD, len(data)))
    return rng.randrange(len(data))


def _flip(data: bytearray, other: bytes, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8, 40))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _set_bytes(data: bytearray, other: bytes, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 16))):
        data[_place(data, rng)] = rng.randrange(256)


def _set_number(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Edit what may be a length, count or timestamp."""
    for _ in range(rng.choice((1, 2, 4))):
        at, width = _place(data, rng), rng.choice((2, 3, 4, 4, 8))
        number = rng.choice((*_NUMBERS, rng.getrandbits(32))) & ((1 << 8 * width) - 1)
        data[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))


def _zero(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, length = _place(data, rng), rng.choice((4, 64, 512, 4096))
    data[at : at + length] = bytes(len(data[at : at + length]))


def _truncate(data: bytearray, other: bytes, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _drop(data: bytearray, other: bytes, rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 4, 188, 1000))]


def _swap(data: bytearray, other: bytes, rng: random.Random) -> None:
    a, b, length = _place(data, rng), _place(data, rng), rng.choice((4, 64, 512, 4096))
    first, second = data[a : a + length], data[b : b + length]
    data[a : a + length], data[b : b + length] = second, first


def _repeat(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, length = _place(data, rng), rng.choice((4, 188, 1000, 4096))
    data[at:at] = data[at : at + length] * rng.choice((1, 1, 3, 20))


def _splice(data: bytearray, other: bytes, rng: random.Random) -> None:
    at, start, length = _place(data, rng), rng.randrange(len(other)), rng.choice((16, 512, 4096, len(other)))
    data[at : at + length * rng.randrange(2)] = other[start : start + length]


_MUTATIONS: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    _flip,
    _flip,
    _set_bytes,
    _set_number,
    _set_number,
    _set_number,
    _zero,
    _truncate,
    _drop,
    _swap,
    _repeat,
    _splice,
)
