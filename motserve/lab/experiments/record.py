"""Logs results to MLflow, where runs can be searched by their scores, and finds them again."""

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
    quieten()
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
            origin = {
                "kind": kind,
                "candidate": candidate,
                **{name: value for name, value in provenance.items() if name != "config"},
            }
            tags = [RunTag(*item) for item in flat(origin)]
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
        config: Where to look.
        query: MLflow's filter, such as `metrics.MOTA > 70`; empty for all.
        order: MLflow's order, such as `metrics.HOTA DESC`; the latest first by default.
        most: How many at the most.

    Returns:
        The runs; none where the experiment does not exist yet.

    Raises:
        InvalidConfig: The filter or the order is not valid, or the store cannot be read.
    """
    if not store_exists(config):
        return []  # asking would make the store
    try:
        client = connect(config)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            return []
        found = client.search_runs(
            [experiment.experiment_id], query, max_results=most, order_by=list(order) or ["attributes.start_time DESC"]
        )
    except failures() as error:
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
