"""Checksums of weights and of data."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

_READ_SIZE: Final = 1 << 20


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files in order of their names, as hexadecimal digits.

    An `.onnx` file may keep its arrays in files beside it; then it is that of all of them, one after the other.
    """
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path, *_external_data(path)]
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(_READ_SIZE):
                digest.update(block)
    return digest.hexdigest()


def _external_data(path: Path) -> list[Path]:
    """Return the files that hold the arrays of an ONNX graph, in order of their names; none where the graph does.

    The names are looked for as the graph writes them, an entry with the key `location`, because the library that
    could read it is large and needed for nothing else.
    """
    if path.suffix != ".onnx":
        return []
    graph = path.read_bytes()
    names = set()
    # before the name stands its length in one or two groups of seven bits, the lower first
    for entry in re.finditer(rb"\n\x08location\x12([\x80-\xff]?)([\x00-\x7f])", graph):
        length = entry[2][0] << 7 | entry[1][0] & 0x7F if entry[1] else entry[2][0]
        names.add(graph[entry.end() : entry.end() + length])
    files = (path.parent / name.decode("utf-8", "replace") for name in sorted(names))
    return [file for file in files if file.is_file()]
