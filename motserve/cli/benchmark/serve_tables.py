"""The tables of `motserve benchmark serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from motserve.cli.output.tables import NumberTable, number_table

if TYPE_CHECKING:
    from motserve.lab.benchmark.serving.rows import ProcessRow, ServingRow

_UNKNOWN: Final = "-"
_SPEED: Final = ("frames/s", "together", "p50 ms", "p95 ms", "p99 ms", "first frame s", "max s")
_MODELS: Final = ("images", "batch", "fill %", "queue p50 ms", "p95 ms", "network ms")


def tables(rows: Sequence[ServingRow]) -> Iterator[NumberTable]:
    """Yield the tables: speed, models, stages of the sessions, CPU time, memory; those without numbers are left out."""
    simulated = any(row.limit_share is not None for row in rows)
    headings = ("speed", *_SPEED, *(["limit %"] if simulated else []))
    yield number_table(headings, [_speed(row, simulated) for row in rows])
    models = [
        (
            f"{_label(row)}, {model.role}",
            _number(model.images, 0),
            _number(model.batch),
            _number(model.fill, 0, 100),
            _number(model.queue_p50_ms),
            _number(model.queue_p95_ms),
            _number(model.image_ms, 2),
        )
        for row in rows
        for model in row.models
    ]
    if models:
        yield number_table(("models", *_MODELS), models)
    staged = [row for row in rows if row.stages_ms]
    if staged:
        stages = sorted({stage for row in staged for stage in row.stages_ms})
        cells = [(_label(row), *(_number(row.stages_ms.get(stage), 2) for stage in stages)) for row in staged]
        yield number_table(("stages of a session, ms per frame", *stages), cells)
    sampled = [row for row in rows if row.processes]
    if sampled:
        yield _processes("CPU time, ms per frame", sampled, lambda use: _number(use.cpu_ms, 2))
        yield _processes("largest memory, MB", sampled, lambda use: _number(use.peak_mb, 0))


def _speed(row: ServingRow, simulated: bool) -> tuple[str, ...]:
    cells = (
        _label(row),
        _number(row.frames_per_s),
        _number(row.together_per_s),
        *(_number(value) for value in (row.p50_ms, row.p95_ms, row.p99_ms)),
        _number(row.first_p50_s, 2),
        _number(row.first_max_s, 2),
    )
    return (*cells, _number(row.limit_share, 1, 100)) if simulated else cells


def _processes(title: str, rows: Sequence[ServingRow], cell: Callable[[ProcessRow], str]) -> NumberTable:
    kinds = sorted({use.kind for row in rows for use in row.processes})
    cells = []
    for row in rows:
        by_kind = {use.kind: cell(use) for use in row.processes}
        cells.append((_label(row), *(by_kind.get(kind, _UNKNOWN) for kind in kinds)))
    return number_table((title, *kinds), cells)


def _label(row: ServingRow) -> str:
    from motserve.lab.benchmark.serving.entrants import SERVICE

    if row.name != SERVICE:
        return row.name
    return f"{row.name}, {row.sessions} video{'' if row.sessions == 1 else 's'}"


def _number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    return _UNKNOWN if value is None else f"{value * scale:.{digits}f}"
