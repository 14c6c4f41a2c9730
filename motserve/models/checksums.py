"""Checksums of weights and of data."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

_READ_SIZE: Final = 1 << 20


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files in order of their names, as hexadecimal digits.

    An `.onnx` file may store its arrays in files beside it; the checksum then covers all of them in sequence.
    """
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path, *_external_data(path)]
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(_READ_SIZE):
                digest.update(block)
    return digest.hexdigest()


def _external_data(path: Path) -> list[Path]:
    """Return the files with the arrays of an ONNX graph, sorted by name; empty if the graph contains them.

    The names are found in the bytes of the graph as entries with the key `location`, because the ONNX library is large
    and needed for nothing else.
    """
    if path.suffix != ".onnx":
        return []
    graph = path.read_bytes()
    names = set()
    # the name follows its length in one or two groups of seven bits, lower group first
    for entry in re.finditer(rb"\n\x08location\x12([\x80-\xff]?)([\x00-\x7f])", graph):
        length = entry[2][0] << 7 | entry[1][0] & 0x7F if entry[1] else entry[2][0]
        names.add(graph[entry.end() : entry.end() + length])
    files = (path.parent / name.decode("utf-8", "replace") for name in sorted(names))
    return [file for file in files if file.is_file()]
