"""A table of candidates side by side: in the terminal, as Markdown, as JSON, and as a picture of speed and accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from motserve.files import replacing, write_json

COMBINED: Final = "combined"
"""What stands in place of a sequence's name for all of them together."""

Kind = Literal["text", "percent", "count", "decimal", "millions"]
Row = Mapping[str, Any]

_DIGITS: Final[Mapping[Kind, int]] = {"percent": 1, "count": 0, "decimal": 2, "millions": 1}
_PERCENT: Final = 100.0
_SCALE: Final[Mapping[Kind, float]] = {"percent": _PERCENT, "millions": 1e-6}
_UNKNOWN: Final = "-"
_FIGURE_INCHES: Final = (8.0, 5.0)
_DOTS_PER_INCH: Final = 120
_MARKERS: Final = "osD^vP*X<>p"  # with ten colours, 110 candidates look different


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a comparison.

    Attributes:
        key: Key of the value in a row; rows keep fractions, seconds and plain counts.
        heading: What stands above it.
        kind: How a value is written; `percent` shows a fraction times 100, `millions` a count by the million.
    """

    key: str
    heading: str
    kind: Kind

    def cell(self, row: Row) -> str:
        """Write the value of a row; what is missing or not finite becomes a dash."""
        value = row.get(self.key)
        if value is None or (isinstance(value, float) and not isfinite(value)):
            return _UNKNOWN
        if self.kind == "text":
            return str(value)
        return f"{value * _SCALE.get(self.kind, 1.0):.{_DIGITS[self.kind]}f}"


@dataclass(frozen=True, slots=True)
class Axes:
    """What the picture of a comparison shows.

    Attributes:
        x: Column of the horizontal axis, logarithmic.
        y: Column of the vertical axis.
        label: Column that names a point.
        x_title: Title of the horizontal axis, with its unit.
        where: Only rows with these values are drawn.
    """

    x: Column
    y: Column
    label: Column
    x_title: str
    where: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidates measured on the same data and machine.

    Attributes:
        title: What was compared.
        columns: The columns that are shown; rows may hold more.
        rows: The measurements, one row a candidate, or one for each candidate and sequence.
        axes: What the picture shows.
        ratios: Keys of fractions that are in the rows but not shown.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    axes: Axes
    ratios: tuple[str, ...] = ()

    def cells(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        headings = [column.heading for column in self.columns]
        rules = ["---" if column.kind == "text" else "---:" for column in self.columns]
        lines = [headings, rules, *([cell.replace("|", "\\|") for cell in row] for row in self.cells())]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def write(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write `table.md`, `results.json` (`{"rows": …, "provenance": …}`) and `plot.png`."""
        write_json(folder / "results.json", {"rows": list(self.rows), "provenance": dict(provenance)})
        with replacing(folder / "table.md") as partial:
            partial.write_text(f"{self.markdown()}\n{_footnote(provenance)}\n", encoding="utf-8")
        with replacing(folder / "plot.png") as partial:
            self._draw(partial)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return what each candidate scored, for a record of runs.

        Ratios are in per cent. The numbers of a single sequence have its name before them; those over all have none.
        """
        percent = {column.key for column in self.columns if column.kind == "percent"} | set(self.ratios)
        whole = self.axes.where.get("sequence")
        candidates: dict[str, dict[str, float]] = {}
        for row in self.rows:
            before = "" if row.get("sequence") == whole else f"{row['sequence']}/"
            numbers = {key: value for key, value in row.items() if _finite(value)}
            candidates.setdefault(self.columns[0].cell(row), {}).update(
                {f"{before}{key}": float(value) * (_PERCENT if key in percent else 1) for key, value in numbers.items()}
            )
        return candidates

    def _draw(self, path: Path) -> None:
        from matplotlib.figure import Figure
        from matplotlib.ticker import StrMethodFormatter

        axes = self.axes
        figure = Figure(figsize=_FIGURE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
        plot = figure.subplots()
        drawn = [row for row in self.rows if all(row.get(key) == value for key, value in axes.where.items())]
        points = [row for row in drawn if all(_finite(row.get(column.key)) for column in (axes.x, axes.y))]
        scale_x, scale_y = (_SCALE.get(column.kind, 1.0) for column in (axes.x, axes.y))
        for number, row in enumerate(points):
            x, y = row[axes.x.key] * scale_x, row[axes.y.key] * scale_y
            plot.scatter([x], [y], s=60, marker=_MARKERS[number % len(_MARKERS)], label=axes.label.cell(row))
        plot.set_xscale("log")
        for formatted in (plot.xaxis.set_major_formatter, plot.xaxis.set_minor_formatter):
            formatted(StrMethodFormatter("{x:g}"))
        plot.margins(x=0.2, y=0.1)
        plot.set_xlabel(axes.x_title)
        plot.set_ylabel(f"{axes.y.heading}, %" if axes.y.kind == "percent" else axes.y.heading)
        plot.set_title(self.title)
        plot.grid(visible=True, alpha=0.3)
        # a legend, because names beside points that lie close together cover each other
        figure.legend(loc="outside right upper", fontsize=9)
        figure.savefig(path, format="png")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _footnote(provenance: Mapping[str, Any]) -> str:
    """Say in a line what a reader of the table alone must know."""
    machine, code = provenance["machine"], provenance["motserve"]
    commit = f", commit {code['commit'][:12]}{'+' if code['dirty'] else ''}" if code["commit"] else ""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return (
        f"motserve {code['version']}{commit}; {provenance['date']}; {machine['processor']}, {machine['cores']} cores, "
        f"{gpus}. Repeat: `{' '.join(provenance['command'])}`"
    )
