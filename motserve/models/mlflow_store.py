"""The connection to MLflow, shared by the logging of runs, the model registry and training."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from motserve.config import MlflowConfig
from motserve.errors import MotserveError
from motserve.models.credentials import without_credentials
from motserve.models.extras import required_extra

BATCH: Final = 100
"""Largest number of parameters and tags in one request to MLflow."""

_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 14 s; the default of 7 takes four minutes
}
_SQLITE: Final = "sqlite:///"
_MOST_CHARACTERS: Final = 500


def connect(config: MlflowConfig) -> Any:
    """Return the MLflow client of a store; a missing folder of a database is created.

    Raises:
        MissingExtra: MLflow is not installed.
    """
    quieten()
    with required_extra("train", f"MLflow at {without_credentials(config.tracking_uri)}"):
        from mlflow import MlflowClient

    uri = config.tracking_uri
    database = database_of(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


def quieten() -> None:
    """Disable telemetry and verbose logs of MLflow, and shorten its retries when a server is down."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)


def store_exists(config: MlflowConfig) -> bool:
    """Return whether the store exists; connecting to a missing SQLite file would create it. True for other stores."""
    database = database_of(config.tracking_uri)
    return database is None or database.is_file()


def database_of(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for other stores."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def placed(config: MlflowConfig) -> MlflowConfig:
    """Return the configuration with absolute paths, for processes with another working directory."""
    uri = config.tracking_uri
    database = database_of(uri)
    if database is not None:
        query = uri.partition("?")[1:]
        uri = f"{_SQLITE}{database.absolute()}{''.join(query)}"
    artifacts = str(Path(config.artifact_dir).absolute()) if config.artifact_dir else None
    return config.model_copy(update={"tracking_uri": uri, "artifact_dir": artifacts})


def failures() -> tuple[type[Exception], ...]:
    """Return the exception types of a store: errors of MLflow, of its database, and of disks and files."""
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:  # without MLflow, `connect` says which extra is missing
        return (OSError,)
    return MlflowException, SQLAlchemyError, OSError


@contextmanager
def refusals(config: MlflowConfig, what: str, kind: type[MotserveError] = MotserveError) -> Iterator[None]:
    """Convert exceptions of a store to an error of motserve, without the credentials in its address.

    Args:
        config: The store.
        what: Object of the failed request, such as `the run`.
        kind: Type of the error.
    """
    try:
        yield
    except failures() as error:
        raise kind(without_credentials(f"MLflow at {config.tracking_uri} refuses {what}: {error}")) from error


def experiment_of(client: Any, config: MlflowConfig) -> str:
    """Return the ID of the configured experiment; a missing one is created."""
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    # a server stores artifacts where others can download them, not in a folder of this machine
    here = config.artifact_dir if not config.tracking_uri.startswith(("http://", "https://")) else None
    place = Path(here).absolute().as_uri() if here else None
    return str(client.create_experiment(config.experiment, artifact_location=place))


def plain_name(text: str) -> str:
    """Replace what MLflow does not allow in names: some characters, and relative path steps.

    >>> plain_name("metrics/mAP50(B)")
    'metrics/mAP50_B_'
    """
    plain = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in str(text))
    return "/".join(step for step in plain.split("/") if step not in ("", ".", "..")) or "_"


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a tree with names valid in MLflow, such as `detector.weights`; None is left out."""
    for key, value in tree.items():
        name = above + plain_name(key)
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        elif value is not None:
            yield name, str(value)[:_MOST_CHARACTERS]
