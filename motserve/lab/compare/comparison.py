"""A table of candidates side by side, and what each of its numbers means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Final, Literal

from motserve.files.names import encodable, readable

Kind = Literal["text", "percent", "count", "decimal", "millions"]
Row = Mapping[str, Any]

_DIGITS: Final[Mapping[Kind, int]] = {"percent": 1, "count": 0, "decimal": 2, "millions": 1}
_PERCENT: Final = 100.0
SCALE: Final[Mapping[Kind, float]] = {"percent": _PERCENT, "millions": 1e-6}
"""What a value is multiplied by before it is shown."""

_UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a comparison.

    Attributes:
        key: Key of the value in a row; rows keep fractions, milliseconds and plain counts.
        heading: What stands above it.
        kind: How a value is written; `percent` shows a fraction times 100, `millions` a count by the million.
    """

    key: str
    heading: str
    kind: Kind

    def cell(self, row: Row) -> str:
        """Write the value of a row; what is missing or not finite becomes a dash."""
        value = row.get(self.key)
        if value is None or (isinstance(value, Real) and not is_finite(value)):
            return _UNKNOWN
        if self.kind == "text":
            return str(encodable(str(value)))
        return f"{value * SCALE.get(self.kind, 1.0):.{_DIGITS[self.kind]}f}"


@dataclass(frozen=True, slots=True)
class Axes:
    """What the picture of a comparison shows.

    Attributes:
        x: Column of the horizontal axis, logarithmic.
        y: Column of the vertical axis.
        label: Column that names a point.
        x_title: Title of the horizontal axis, with its unit.
    """

    x: Column
    y: Column
    label: Column
    x_title: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidates measured on the same data and machine.

    Attributes:
        title: What was compared.
        columns: The columns that are shown; rows may hold more.
        rows: The measurements, one row a candidate, or one for each candidate and sequence.
        axes: What the picture shows.
        ratios: Keys of fractions that are in the rows but not shown.
        overall: What stands for `sequence` in the rows over all data; None where each row is one.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    axes: Axes
    ratios: tuple[str, ...] = ()
    overall: str | None = None

    def overall_rows(self) -> list[Row]:
        """Return the rows over all data, one a candidate."""
        return [row for row in self.rows if row.get("sequence") == self.overall]

    def cells(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        headings = [column.heading for column in self.columns]
        rules = ["---" if column.kind == "text" else "---:" for column in self.columns]
        lines = [headings, rules, *([_in_one_cell(cell) for cell in row] for row in self.cells())]
        return f"## {readable(self.title)}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return what each candidate scored, for a record of runs.

        Ratios are in per cent. The numbers of a single sequence have its name before them; those over all have none.
        """
        percent = {column.key for column in self.columns if column.kind == "percent"} | set(self.ratios)
        candidates: dict[str, dict[str, float]] = {}
        for row in self.rows:
            before = "" if row.get("sequence") == self.overall else f"{row['sequence']}/"
            numbers = {key: value for key, value in row.items() if is_finite(value)}
            candidates.setdefault(self.columns[0].cell(row), {}).update(
                {f"{before}{key}": float(value) * (_PERCENT if key in percent else 1) for key, value in numbers.items()}
            )
        return candidates


def is_finite(value: Any) -> bool:
    """Return whether a value of a row is a finite number."""
    return isinstance(value, Real) and isfinite(value)


def _in_one_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
