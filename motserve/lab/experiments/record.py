"""Logs results to MLflow and searches them by their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import isfinite
from pathlib import Path
from typing import Any, Final

from motserve.config import MlflowConfig
from motserve.errors import InvalidConfig
from motserve.models.credentials import without_credentials
from motserve.models.extras import required_extra
from motserve.models.mlflow_store import (
    BATCH,
    connect,
    experiment_of,
    failures,
    flat,
    plain_name,
    quieten,
    refusals,
    store_exists,
)

_PERCENT: Final = 100.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run in MLflow.

    Attributes:
        id: ID in MLflow.
        name: Its name.
        started: Start time.
        kind: Kind of result: `mot`, `reid`, `detection`, …
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
        config: The MLflow store and experiment.
        kind: Kind of result, such as `mot`.
        metrics: Scores by name, ratios in per cent (see `percent`). Values that are not finite are not logged.
        provenance: Provenance of the result. Its configuration becomes parameters, the rest tags.
        artifacts: Files to store with the run.
        candidate: Name of the candidate in a comparison; it names the run.

    Returns:
        The ID of the run.

    Raises:
        MotserveError: The store refuses or cannot be reached.
    """
    quieten()
    with required_extra("train", "the log of runs"):
        from mlflow.entities import Metric, Param, RunTag

    with refusals(config, "the run"):
        client = connect(config)
        run = client.create_run(experiment_of(client, config), run_name=f"{candidate or kind} {provenance['date']}")
        run_id: str = run.info.run_id
        try:
            now = int(datetime.now(timezone.utc).timestamp() * 1000)
            finite = [
                Metric(plain_name(key), float(value), now, 0) for key, value in metrics.items() if isfinite(value)
            ]
            params = [Param(*item) for item in flat(provenance["config"])]
            details = {
                "kind": kind,
                "candidate": candidate,
                **{name: value for name, value in provenance.items() if name != "config"},
            }
            tags = [RunTag(*item) for item in flat(details)]
            for start in range(0, max(len(finite), len(params), len(tags)), BATCH):
                part = slice(start, start + BATCH)
                client.log_batch(run_id, metrics=finite[part], params=params[part], tags=tags[part])
            for artifact in artifacts:
                client.log_artifact(run_id, str(artifact))
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
    return run_id


def find_runs(config: MlflowConfig, query: str, order: Sequence[str], most: int) -> list[Run]:
    """Find runs.

    Args:
        config: The MLflow store and experiment.
        query: MLflow filter, such as `metrics.MOTA > 70`; empty for all.
        order: MLflow order, such as `metrics.HOTA DESC`; the latest first by default.
        most: Maximum number of runs.

    Returns:
        The runs; none if the experiment does not exist yet.

    Raises:
        InvalidConfig: The filter or the order is not valid, or the store cannot be read.
    """
    if not store_exists(config):
        return []  # a query would create the store
    try:
        client = connect(config)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            return []
        runs = client.search_runs(
            [experiment.experiment_id], query, max_results=most, order_by=list(order) or ["attributes.start_time DESC"]
        )
    except failures() as error:
        request = " ordered by ".join(map(repr, (query, *order)))
        message = f"MLflow at {config.tracking_uri} cannot answer {request}: {error}"
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
        for run in runs
    ]


def percent(scores: Mapping[str, float | int], ratios: Sequence[str]) -> dict[str, float]:
    """Return scores as benchmarks print them and MLflow stores them: ratios in per cent, counts unchanged.

    >>> percent({"MOTA": 0.5, "IDSW": 3}, ["MOTA"])
    {'MOTA': 50.0, 'IDSW': 3.0}
    """
    return {name: float(value) * (_PERCENT if name in ratios else 1) for name, value in scores.items()}
