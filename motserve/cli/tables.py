"""How tables look in the terminal: narrow, numbers to the right, no row broken."""

from __future__ import annotations

from collections.abc import Sequence

from rich import get_console
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from motserve.experiments.comparison import COMBINED, Comparison

_LEAST_NAME = 8  # characters


def number_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> Table:
    """Return a table: a column of names, then columns of numbers.

    Where the terminal is narrow, names are cut, numbers never.

    Args:
        headings: Headings of the columns.
        rows: The cells of each row; a row named `combined` stands out.
        title: What stands above the table.
    """
    return _table(headings, rows, title, names=1)


def comparison_table(comparison: Comparison) -> Table:
    """Return a comparison as a table; a candidate with several rows is named once."""
    headings = [column.heading for column in comparison.columns]
    rows = comparison.cells()
    first = [row[0] for row in rows]
    grouped = len(set(first)) < len(first)
    starts = [grouped and number > 0 and name != first[number - 1] for number, name in enumerate(first)]
    repeated = [number > 0 and name == first[number - 1] for number, name in enumerate(first)]
    shown = [["" if again else row[0], *row[1:]] for row, again in zip(rows, repeated, strict=True)]
    names = sum(column.kind == "text" for column in comparison.columns)
    return _table(headings, shown, comparison.title, names, starts)


def _table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None,
    names: int,
    starts: Sequence[bool] = (),
) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    widths = [max(map(len, [heading, *(row[i] for row in rows)])) for i, heading in enumerate(headings)]
    left = get_console().width - sum(widths[names:]) - 2 * len(headings)
    for column, (heading, width) in enumerate(zip(headings, widths, strict=True)):
        numeric = column >= names
        share = width if numeric else max(_LEAST_NAME, left * width // max(1, sum(widths[:names])))
        table.add_column(
            escape(heading),
            justify="right" if numeric else "left",
            no_wrap=True,
            min_width=width if numeric else None,
            max_width=share,
        )
    for number, row in enumerate(rows):
        if row[0] == COMBINED or (starts and starts[number]):
            table.add_section()
        table.add_row(*map(escape, row), style="bold" if row[0] == COMBINED else None)
    return table
