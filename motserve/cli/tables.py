"""How tables look in the terminal: narrow, numbers to the right, no row broken."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from motserve.experiments.comparison import Comparison


def number_table(first: str, headings: Sequence[str], title: str | None = None) -> Table:
    """Return an empty table: a column of names, then columns of numbers.

    Args:
        first: Heading of the names.
        headings: Headings of the numbers.
        title: What stands above the table.
    """
    table = _empty(title)
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Return a comparison as a table; a candidate with several rows is named once."""
    table = _empty(comparison.title)
    for column in comparison.columns:
        numeric = column.kind != "text"
        width = max([len(column.heading), *(len(column.cell(row)) for row in comparison.rows)])
        table.add_column(
            column.heading,
            justify="right" if numeric else "left",
            no_wrap=True,
            min_width=width if numeric else None,  # names may be cut where the terminal is narrow, numbers never
        )
    before = None
    for name, *cells in comparison.cells():
        again = name == before
        if before is not None and not again and _grouped(comparison):
            table.add_section()
        table.add_row("" if again else escape(name), *map(escape, cells))
        before = name
    return table


def _grouped(comparison: Comparison) -> bool:
    names = [comparison.columns[0].cell(row) for row in comparison.rows]
    return len(set(names)) < len(names)


def _empty(title: str | None) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
