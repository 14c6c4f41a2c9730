"""Tables for the terminal: names left-aligned, numbers right-aligned and never truncated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from motserve.files.names import readable

if TYPE_CHECKING:
    from motserve.lab.compare.comparison import Comparison

_GAP = 2  # characters that a column takes besides its content
_LEAST_NAME = 8  # characters
_LEAST_NUMBERS = 24  # characters that names leave to the numbers


@dataclass(frozen=True, slots=True)
class NumberTable:
    """Columns of names, then columns of numbers.

    If the terminal is too narrow for all columns of numbers, the others follow in a table below; a truncated number
    would be a wrong number. Names are truncated only if the numbers have almost no room.

    Attributes:
        headings: Headings of the columns.
        rows: The cells of each row; a row named `combined` is bold.
        title: Title above the table.
        names: Columns of names.
        starts: For each row, whether it begins a section; empty for no sections.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None
    names: int = 1
    starts: Sequence[bool] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the table out for the available width."""
        widths = self._widths(options.max_width)
        numbers = range(self.names, len(self.headings))
        for part, columns in enumerate(_lines_of_columns(widths, self.names, numbers, options.max_width)):
            yield self._subtable([*range(self.names), *columns], widths, None if part else self.title)

    def _widths(self, room: int) -> list[int]:
        widths = [max(map(cell_len, column)) for column in zip(self.headings, *self.rows, strict=True)]
        needed = sum(widths[: self.names])
        left = room - _LEAST_NUMBERS - _GAP * self.names
        if needed > left:
            shares = [max(_LEAST_NAME, left * width // needed) for width in widths[: self.names]]
            widths[: self.names] = map(min, widths, shares)
        return widths

    def _subtable(self, columns: Sequence[int], widths: Sequence[int], title: str | None) -> Table:
        from motserve.lab.evaluation.sequences import COMBINED

        table = Table(
            title=title and escape(readable(title)),
            title_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for column in columns:
            table.add_column(
                escape(self.headings[column]),
                justify="left" if column < self.names else "right",
                no_wrap=True,
                min_width=widths[column],
                max_width=widths[column],
            )
        for number, row in enumerate(self.rows):
            if row[0] == COMBINED or (self.starts and self.starts[number]):
                table.add_section()
            cells = [escape(row[column]) for column in columns]
            table.add_row(*cells, style="bold" if row[0] == COMBINED else None)
        return table


def number_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> NumberTable:
    """Return a table: a column of names, then columns of numbers.

    Args:
        headings: Headings of the columns.
        rows: The cells of each row; a row named `combined` is bold.
        title: Title above the table.
    """
    return NumberTable(headings, [list(map(readable, row)) for row in rows], title)


def comparison_table(comparison: Comparison) -> NumberTable:
    """Return a comparison as a table; the name of a candidate with several rows is shown once."""
    headings = [column.heading for column in comparison.columns]
    rows = comparison.cells()
    first = [row[0] for row in rows]
    grouped = len(set(first)) < len(first)
    starts = [grouped and number > 0 and name != first[number - 1] for number, name in enumerate(first)]
    repeated = [number > 0 and name == first[number - 1] for number, name in enumerate(first)]
    shown = [["" if again else row[0], *row[1:]] for row, again in zip(rows, repeated, strict=True)]
    names = sum(column.kind == "text" for column in comparison.columns)
    return NumberTable(headings, shown, comparison.title, names, starts)


def _lines_of_columns(widths: Sequence[int], names: int, numbers: Sequence[int], room: int) -> Iterator[list[int]]:
    """Yield groups of number columns, each as wide as fits beside the names."""
    taken = sum(widths[:names]) + _GAP * names
    line: list[int] = []
    for column in numbers:
        if line and taken + sum(widths[other] + _GAP for other in [*line, column]) > room:
            yield line
            line = []
        line.append(column)
    if line or not numbers:
        yield line
