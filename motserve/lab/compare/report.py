"""Writes a comparison to a folder: as Markdown, as JSON, and as a plot of accuracy against cost."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from motserve.files.atomic import replacing, write_json
from motserve.files.names import readable
from motserve.lab.compare.comparison import SCALE, Comparison, is_finite
from motserve.models.extras import required_extra

_FIGURE_INCHES: Final = (8.0, 5.0)
_DECADES_LABELLED = 20.0  # ratio of the ends of an axis above which the labels between powers of ten overlap
_DOTS_PER_INCH: Final = 120
_MARKERS: Final = "osD^vP*X<>p"  # with ten colours, 110 candidates are distinct


def write_comparison(comparison: Comparison, folder: Path, provenance: Mapping[str, Any]) -> list[Path]:
    """Write `table.md`, `results.json` (`{"rows": …, "provenance": …}`) and `plot.png`; the folder is made if missing.

    Args:
        comparison: The comparison.
        folder: Folder for the files.
        provenance: The provenance stamp.

    Returns:
        The three files.
    """
    table, results, plot = files = [folder / name for name in ("table.md", "results.json", "plot.png")]
    write_json(results, {"rows": list(comparison.rows), "provenance": dict(provenance)})
    with replacing(table) as partial:
        partial.write_text(f"{comparison.markdown()}\n{_footnote(provenance)}\n", encoding="utf-8")
    with replacing(plot) as partial:
        _draw(comparison, partial)
    return files


def _draw(comparison: Comparison, path: Path) -> None:
    with required_extra("lab", "the plot of a comparison"):
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter, StrMethodFormatter

    axes = comparison.axes
    figure = Figure(figsize=_FIGURE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    plot = figure.subplots()
    rows = comparison.overall_rows()
    points = [row for row in rows if all(is_finite(row.get(column.key)) for column in (axes.x, axes.y))]
    points = [row for row in points if row[axes.x.key] > 0]  # a logarithmic axis has no zero
    scale_x, scale_y = (SCALE.get(column.kind, 1.0) for column in (axes.x, axes.y))
    marks = []
    for number, row in enumerate(points):
        x, y = row[axes.x.key] * scale_x, row[axes.y.key] * scale_y
        marks.append(plot.scatter([x], [y], s=60, marker=_MARKERS[number % len(_MARKERS)]))
    plot.set_xscale("log")
    plot.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    values = [row[axes.x.key] for row in points]
    crowded = bool(values) and max(values) > _DECADES_LABELLED * min(values)
    plot.xaxis.set_minor_formatter(NullFormatter() if crowded else StrMethodFormatter("{x:g}"))
    plot.margins(x=0.2, y=0.1)
    plot.set_xlabel(axes.x_title)
    plot.set_ylabel(f"{axes.y.heading}, %" if axes.y.kind == "percent" else axes.y.heading)
    plot.set_title(readable(comparison.title), parse_math=False)
    plot.grid(visible=True, alpha=0.3)
    # a legend, because names beside points that lie close together would overlap
    if marks:
        legend = figure.legend(marks, [""] * len(marks), loc="outside right upper", fontsize=9)
        for text, row in zip(legend.get_texts(), points, strict=True):
            text.set(text=axes.label.cell(row), parse_math=False)  # literally, even with a $ or a leading _
    figure.savefig(path, format="png")


def _footnote(provenance: Mapping[str, Any]) -> str:
    """Return version, date, machine and command in one line, for readers of the table alone."""
    machine, code = provenance["machine"], provenance["motserve"]
    commit = f", commit {code['commit'][:12]}{'+' if code['dirty'] else ''}" if code["commit"] else ""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return (
        f"motserve {code['version']}{commit}; {provenance['date']}; {machine['processor']}, {machine['cores']} cores, "
        f"{gpus}. Repeat: `{shlex.join(provenance['command'])}`"
    )
