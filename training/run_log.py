"""The run of a training job in MLflow, created by the driver and written by the worker of rank 0."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from motserve.config import MlflowConfig
from motserve.models.mlflow_store import BATCH, connect, experiment_of, failures, flat, plain_name, refusals

_JOB = "job"
_DIGEST = "job_digest"


class RunLog:
    """Writes to one MLflow run.

    Args:
        config: The store.
        run_id: MLflow's ID of the run.
        digest: Checksum of settings and data, which a resumed job must match.
    """

    def __init__(self, config: MlflowConfig, run_id: str, digest: str = "") -> None:
        self.run_id = run_id
        self.digest = digest
        self._config = config
        self._client = connect(config)
        self._logged: dict[str, int] = {}

    @classmethod
    def create(
        cls, config: MlflowConfig, job: str, parameters: Mapping[str, Any], tags: Mapping[str, Any], digest: str
    ) -> RunLog:
        """Create the run of a job.

        Args:
            config: The store.
            job: Name of the job.
            parameters: The settings.
            tags: Provenance: code, data, machine.
            digest: Checksum of settings and data.

        Raises:
            MotserveError: The store refuses or cannot be reached.
        """
        with refusals(config, "the run"):
            client = connect(config)
            run = client.create_run(experiment_of(client, config), run_name=job)
        log = cls(config, run.info.run_id, digest)
        log._describe(parameters, {**tags, _JOB: job, _DIGEST: digest})
        return log

    @classmethod
    def find(cls, config: MlflowConfig, job: str) -> RunLog | None:
        """Return the unfinished run of an interrupted job; None if there is none.

        Raises:
            MotserveError: The store refuses or cannot be reached.
        """
        with refusals(config, "the search for a run"):
            client = connect(config)
            query = f"tags.{_JOB} = '{job}' and attributes.status != 'FINISHED'"
            runs = client.search_runs([experiment_of(client, config)], query, max_results=1)
        if not runs:
            return None
        return cls(config, runs[0].info.run_id, runs[0].data.tags.get(_DIGEST, ""))

    def metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the metrics of an epoch; values that the run already has are not logged again.

        An epoch is repeated if a worker died after it was logged and before its checkpoint was stored.

        Args:
            epoch: The epoch, counted from 1.
            values: Values by name; those that are not finite are skipped.
        """
        named = _named(values)
        with refusals(self._config, "the metrics"):
            new = {name: value for name, value in named.items() if epoch > self._last(name)}
        self._log(new, epoch)
        self._logged |= dict.fromkeys(new, epoch)

    def summary(self, values: Mapping[str, float]) -> None:
        """Log the final scores of the run."""
        self._log(_named(values), 0)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in values.items()]
        if points:
            with refusals(self._config, "the metrics"):
                self._client.log_batch(self.run_id, metrics=points)

    def _last(self, name: str) -> int:
        """Return the last epoch for which the run has a value."""
        if name not in self._logged:
            history = self._client.get_metric_history(self.run_id, name)
            self._logged[name] = max((point.step for point in history), default=0)
        return self._logged[name]

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; nested mappings get names such as `data.sha256`."""
        self._describe({}, values)

    def artifacts(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or all files of a folder, with the run."""
        with refusals(self._config, "the artifacts"):
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), folder)
            else:
                self._client.log_artifact(self.run_id, str(path), folder)

    def place(self, folder: str) -> str:
        """Return the path, or the address, of files stored in a folder of the run."""
        with refusals(self._config, "the run"):
            uri = self._client.get_run(self.run_id).info.artifact_uri
        return f"{uri.removeprefix('file://')}/{folder}"

    def resume(self) -> None:
        """Mark an interrupted run as running again."""
        with refusals(self._config, "the run"):
            self._client.update_run(self.run_id, status="RUNNING")

    def abandon(self) -> None:
        """Abandon an interrupted run, so that its job is not resumed from it."""
        with refusals(self._config, "the end of the run"):
            self._client.delete_tag(self.run_id, _JOB)
            self._client.set_terminated(self.run_id, "KILLED")

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Mark the run as finished when the block ends, as failed when it fails."""
        try:
            yield
        except BaseException as error:
            with suppress(*failures()):  # the first error is reported; the store may be unreachable
                self._client.set_terminated(self.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        with refusals(self._config, "the end of the run"):
            self._client.set_terminated(self.run_id)

    def _describe(self, parameters: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(*item) for item in flat(parameters)]
        labels = [RunTag(*item) for item in flat(tags)]
        with refusals(self._config, "parameters or tags"):
            for start in range(0, max(len(params), len(labels)), BATCH):
                part = slice(start, start + BATCH)
                self._client.log_batch(self.run_id, params=params[part], tags=labels[part])


def _named(values: Mapping[str, float]) -> dict[str, float]:
    """Return finite values by names that are valid in MLflow."""
    return {plain_name(name): float(value) for name, value in values.items() if isfinite(value)}
