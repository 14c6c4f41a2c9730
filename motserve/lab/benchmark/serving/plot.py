"""Draws the frames per second of the service against the number of videos, beside what one process reaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from motserve.files.atomic import replacing
from motserve.lab.benchmark.serving.entrants import SERVICE
from motserve.lab.benchmark.serving.rows import ServingRow
from motserve.models.extras import required_extra

_FIGURE_INCHES: Final = (8.0, 5.0)
_DOTS_PER_INCH: Final = 120


def draw(rows: Sequence[ServingRow], path: Path, limit_per_s: float | None = None) -> None:
    """Write the plot as PNG.

    Args:
        rows: The measurements.
        path: The file; its folder is made if it is missing.
        limit_per_s: Frames per second of the simulated detector with full batches; None for a real one.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    with required_extra("lab", "the plot of a benchmark"):
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure = Figure(figsize=_FIGURE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    plot = figure.subplots()
    served = sorted((row for row in rows if row.name == SERVICE), key=lambda row: row.sessions)
    sessions = [row.sessions for row in served] or [1]
    plot.plot(sessions[: len(served)], [row.frames_per_s for row in served], "o-", label="service, start included")
    tracked = [(row.sessions, row.together_per_s) for row in served if row.together_per_s is not None]
    plot.plot([x for x, _ in tracked], [y for _, y in tracked], "s--", label="service, while all videos are tracked")
    for number, row in enumerate(row for row in rows if row.name != SERVICE):
        plot.axhline(row.frames_per_s, color=f"C{number + 2}", linestyle=":", label=f"{row.name}, one process")
    if limit_per_s is not None:
        plot.axhline(limit_per_s, color="black", linewidth=1, label="limit of the simulated detector")
        plot.set_yscale("log")
        plot.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    plot.set_xscale("log", base=2)
    plot.set_xticks(sessions)
    plot.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    plot.xaxis.set_minor_formatter(NullFormatter())
    if limit_per_s is None:
        plot.set_ylim(bottom=0)
    plot.set_xlabel("videos at once")
    plot.set_ylabel("frames/s of all videos")
    plot.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
