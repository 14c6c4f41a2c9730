"""The connection to MLflow that the record of runs, the registry of models and training share."""

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

BATCH: Final = 100
"""Parameters and tags that MLflow takes at a time."""

_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 14 s; its own 7 take four minutes
}
_SQLITE: Final = "sqlite:///"
_MOST_CHARACTERS: Final = 500


def connect(config: MlflowConfig) -> Any:
    """Return MLflow's client for a store; the folder of a database is made where it is missing."""
    quieten()
    from mlflow import MlflowClient

    uri = config.tracking_uri
    database = database_of(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


def quieten() -> None:
    """Spare MLflow its reports to its makers, its news on every table, and minutes of asking a server that is down."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def store_exists(config: MlflowConfig) -> bool:
    """Tell whether asking would not make the store: it is no SQLite file, or one that is there."""
    database = database_of(config.tracking_uri)
    return database is None or database.is_file()


def database_of(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for other stores."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def placed(config: MlflowConfig) -> MlflowConfig:
    """Return the configuration with absolute paths, for processes that work in another folder."""
    uri = config.tracking_uri
    database = database_of(uri)
    if database is not None:
        query = uri.partition("?")[1:]
        uri = f"{_SQLITE}{database.absolute()}{''.join(query)}"
    artifacts = str(Path(config.artifact_dir).absolute()) if config.artifact_dir else None
    return config.model_copy(update={"tracking_uri": uri, "artifact_dir": artifacts})


def failures() -> tuple[type[Exception], ...]:
    """Return what a store raises: MLflow's own errors, those of its database, and those of disks and files."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


@contextmanager
def refusals(config: MlflowConfig, what: str, kind: type[MotserveError] = MotserveError) -> Iterator[None]:
    """Turn what a store raises into one of our errors, without the credentials in its address.

    Args:
        config: The store.
        what: What it refuses, such as `the run`.
        kind: The error to raise.
    """
    try:
        yield
    except failures() as error:
        raise kind(without_credentials(f"MLflow at {config.tracking_uri} refuses {what}: {error}")) from error


def experiment_of(client: Any, config: MlflowConfig) -> str:
    """Return the ID of the configured experiment, which is made where it is missing."""
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    # a server keeps artifacts where others can fetch them; a folder of this machine is none such
    here = config.artifact_dir if not config.tracking_uri.startswith(("http://", "https://")) else None
    place = Path(here).absolute().as_uri() if here else None
    return str(client.create_experiment(config.experiment, artifact_location=place))


def plain_name(text: str) -> str:
    """Replace what MLflow does not take in names: some characters, and steps of a path that lead elsewhere.

    >>> plain_name("metrics/mAP50(B)")
    'metrics/mAP50_B_'
    """
    plain = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in str(text))
    return "/".join(step for step in plain.split("/") if step not in ("", ".", "..")) or "_"


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a tree with names that MLflow takes, such as `detector.weights`; None is left out."""
    for key, value in tree.items():
        name = above + plain_name(key)
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        elif value is not None:
            yield name, str(value)[:_MOST_CHARACTERS]
