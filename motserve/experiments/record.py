"""Logs results to MLflow, where runs can be searched by their scores, and finds them again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import isfinite
from pathlib import Path
from typing import Any, Final

from motserve.config import MlflowConfig
from motserve.errors import InvalidConfig, MotserveError
from motserve.provenance import without_credentials

_SQLITE: Final = "sqlite:///"
_BATCH: Final = 100  # parameters and tags that MLflow takes at a time
_MOST_CHARACTERS: Final = 500
_PERCENT: Final = 100.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was found.

    Attributes:
        id: MLflow's ID.
        name: Its name.
        started: When it began.
        kind: What was measured: `mot`, `reid`, `detection`, …
        metrics: Its scores by name; ratios in per cent.
        tags: Commit, weights, data.
    """

    id: str
    name: str
    started: datetime
    kind: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def log_run(
    config: MlflowConfig,
    kind: str,
    metrics: Mapping[str, float],
    provenance: Mapping[str, Any],
    artifacts: Sequence[Path] = (),
    candidate: str | None = None,
) -> str:
    """Log a result.

    Args:
        config: Where to.
        kind: What was measured.
        metrics: Scores by a name that MLflow takes; see `percent`. Those that are not finite are left out.
        provenance: The stamp on the result. Its configuration becomes parameters, the rest tags.
        artifacts: Files to keep with the run.
        candidate: Which of several candidates this is; names the run.

    Returns:
        The ID of the run.

    Raises:
        MotserveError: The store refuses or cannot be reached.
    """
    _quieten()
    from mlflow.entities import Metric, Param, RunTag

    try:
        client = _client(config)
        run = client.create_run(_experiment(client, config), run_name=f"{candidate or kind} {provenance['date']}")
        run_id: str = run.info.run_id
        try:
            now = int(datetime.now(timezone.utc).timestamp() * 1000)
            finite = [Metric(_name(key), float(value), now, 0) for key, value in metrics.items() if isfinite(value)]
            params = [Param(*item) for item in _flat(provenance["config"])]
            origin = {
                "kind": kind,
                "candidate": candidate,
                **{name: value for name, value in provenance.items() if name != "config"},
            }
            tags = [RunTag(*item) for item in _flat(origin)]
            for start in range(0, max(len(finite), len(params), len(tags)), _BATCH):
                part = slice(start, start + _BATCH)
                client.log_batch(run_id, metrics=finite[part], params=params[part], tags=tags[part])
            for artifact in artifacts:
                client.log_artifact(run_id, str(artifact))
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
    except _failures() as error:
        message = f"MLflow at {config.tracking_uri} refuses the run: {error}"
        raise MotserveError(without_credentials(message)) from error
    return run_id


def find_runs(config: MlflowConfig, query: str, order: Sequence[str], most: int) -> list[Run]:
    """Find runs.

    Args:
        config: Where to look.
        query: MLflow's filter, such as `metrics.MOTA > 70`; empty for all.
        order: MLflow's order, such as `metrics.HOTA DESC`; the latest first by default.
        most: How many at the most.

    Returns:
        The runs; none where the experiment does not exist yet.

    Raises:
        InvalidConfig: The filter or the order is not valid, or the store cannot be read.
    """
    database = _database(_uri(config))
    if database is not None and not database.is_file():
        return []  # asking would make the store
    try:
        client = _client(config)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            return []
        found = client.search_runs(
            [experiment.experiment_id], query, max_results=most, order_by=list(order) or ["attributes.start_time DESC"]
        )
    except _failures() as error:
        asked = " ordered by ".join(map(repr, (query, *order)))
        message = f"MLflow at {config.tracking_uri} cannot answer {asked}: {error}"
        raise InvalidConfig(without_credentials(message)) from error
    return [
        Run(
            run.info.run_id,
            run.info.run_name,
            datetime.fromtimestamp(run.info.start_time / 1000, timezone.utc),
            run.data.tags.get("kind", ""),
            dict(run.data.metrics),
            {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
        )
        for run in found
    ]


def percent(scores: Mapping[str, float | int], ratios: Sequence[str]) -> dict[str, float]:
    """Return scores as benchmarks print them and MLflow is asked for them: ratios in per cent, counts as they are.

    >>> percent({"MOTA": 0.5, "IDSW": 3}, ["MOTA"])
    {'MOTA': 50.0, 'IDSW': 3.0}
    """
    return {name: float(value) * (_PERCENT if name in ratios else 1) for name, value in scores.items()}


def _quieten() -> None:
    """Spare MLflow, before it is imported, its reports to its makers and its news on every table it makes."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _client(config: MlflowConfig) -> Any:
    _quieten()
    from mlflow import MlflowClient

    uri = _uri(config)
    database = _database(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


def _uri(config: MlflowConfig) -> str:
    """Return the address of the store; databases know no home folder."""
    return config.tracking_uri.replace(f"{_SQLITE}~", f"{_SQLITE}{Path.home()}", 1)


def _database(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for other stores."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def _failures() -> tuple[type[Exception], ...]:
    """Return what a store raises: MLflow's own errors, those of its database, and those of disks and files."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _experiment(client: Any, config: MlflowConfig) -> str:
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    place = Path(config.artifact_dir).expanduser().absolute().as_uri() if config.artifact_dir else None
    return str(client.create_experiment(config.experiment, artifact_location=place))


def _name(text: str) -> str:
    """Replace what MLflow does not take in names: some characters, and steps of a path that lead elsewhere."""
    plain = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in str(text))
    return "/".join(step for step in plain.split("/") if step not in ("", ".", "..")) or "_"


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = above + _name(key)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        elif value is not None:
            yield name, str(value)[:_MOST_CHARACTERS]
