"""All rows of the corpus, under the headings of the table of results."""

from __future__ import annotations

from dataclasses import replace

from corpus.clocks import CLOCKS
from corpus.damage import DAMAGE
from corpus.formats import CODECS, CONTAINERS, PIXELS, SHAPES
from corpus.layouts import LAYOUTS
from corpus.row import Row

_KINDS = {
    "containers": CONTAINERS,
    "codecs": CODECS,
    "formats of pixels": PIXELS,
    "shapes": SHAPES,
    "clocks": CLOCKS,
    "streams": LAYOUTS,
    "damage": DAMAGE,
}
ROWS: dict[str, Row] = {row.name: replace(row, kind=kind) for kind, rows in _KINDS.items() for row in rows}
