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
"""Factor that a value is multiplied by before it is shown."""

_UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a comparison.

    Attributes:
        key: Key of the value in a row; rows keep fractions, milliseconds and plain counts.
        heading: Heading of the column.
        kind: Format of a value; `percent` shows a fraction times 100, `millions` a count in millions.
    """

    key: str
    heading: str
    kind: Kind

    def cell(self, row: Row) -> str:
        """Format the value of a row; a missing or non-finite value becomes a dash."""
        value = row.get(self.key)
        if value is None or (isinstance(value, Real) and not is_finite(value)):
            return _UNKNOWN
        if self.kind == "text":
            return str(encodable(str(value)))
        return f"{value * SCALE.get(self.kind, 1.0):.{_DIGITS[self.kind]}f}"


@dataclass(frozen=True, slots=True)
class Axes:
    """Axes of the plot of a comparison.

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
        columns: The columns shown; rows may hold more keys.
        rows: The measurements, one row per candidate, or one per candidate and sequence.
        axes: Axes of the plot.
        ratios: Keys of fractions that are in the rows but not shown.
        overall: Value of `sequence` in the rows over all data; None where every row is over all data.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    axes: Axes
    ratios: tuple[str, ...] = ()
    overall: str | None = None

    def overall_rows(self) -> list[Row]:
        """Return the rows over all data, one per candidate."""
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
        """Return the scores of each candidate, to log them as runs.

        Ratios are in per cent. Scores of a single sequence have the prefix `<sequence>/`, those over all data none.
        """
        percent = {column.key for column in self.columns if column.kind == "percent"} | set(self.ratios)
        candidates: dict[str, dict[str, float]] = {}
        for row in self.rows:
            prefix = "" if row.get("sequence") == self.overall else f"{row['sequence']}/"
            numbers = {key: value for key, value in row.items() if is_finite(value)}
            candidates.setdefault(self.columns[0].cell(row), {}).update(
                {f"{prefix}{key}": float(value) * (_PERCENT if key in percent else 1) for key, value in numbers.items()}
            )
        return candidates


def is_finite(value: Any) -> bool:
    """Return whether a value of a row is a finite number."""
    return isinstance(value, Real) and isfinite(value)


def _in_one_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
