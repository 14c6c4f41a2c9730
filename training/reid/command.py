"""Trains an embedder on crops of people: `python -m training.reid --config configs/training/reid.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from motserve.errors import InvalidConfig
from motserve.models.mlflow_store import placed
from motserve.models.weights import REGISTRY, SHIPPED
from training.command import run_command
from training.job import Job
from training.job_config import SCRATCH
from training.reid.config import ReidTrainingConfig
from training.reid.data import describe_training_data, list_tests, read_training_data
from training.reid.network import IMAGENET, build_network, load_start
from training.reid.train import train_reid


def make_job(settings: ReidTrainingConfig) -> Job[ReidTrainingConfig]:
    """Check data and settings before workers start, and return the job.

    Args:
        settings: The settings.

    Raises:
        NotFound: A folder or a file is missing.
        InvalidConfig: Settings do not fit the data, or the backbone the crops.
        InvalidData: Data are malformed or too few.
        WeightsUnavailable: The initial weights are not available.
    """
    settings = _placed(settings)
    data = read_training_data(settings.data)
    if data.classes < settings.batch.identities:
        raise InvalidConfig(
            f"{settings.data.root} has {data.classes} training people; batch.identities must not be larger"
        )
    list_tests(settings)
    described = describe_training_data(settings.data)
    network = build_network(settings.network, settings.crops)
    start = load_start(network, settings.network, settings.crops, settings.mlflow)
    if start is not None:
        described["init"] = start.describe()
        init = settings.network.init
        if start.name.startswith(REGISTRY):
            init = start.name  # the version that the alias names now
        elif init not in (IMAGENET, *SHIPPED):
            init = str(start.path.absolute())
        network_settings = settings.network.model_copy(update={"init": init})
        settings = settings.model_copy(update={"network": network_settings})
    init = settings.network.init
    weights = "random weights" if init == SCRATCH else init
    about = (
        f"{len(data.train)} crops of {data.classes} people in {settings.data.root} and {len(data.validation)} for "
        f"validation, {settings.network.backbone} from {weights}, {settings.schedule.epochs} epochs"
    )
    return Job("reid", settings, train_reid, described, about)


def _placed(settings: ReidTrainingConfig) -> ReidTrainingConfig:
    """Make paths absolute, because workers have another working folder."""
    data = settings.data
    validation_ids = None if data.validation_ids is None else _absolute(data.validation_ids)
    cross = tuple(
        one.model_copy(
            update={"root": _absolute(one.root), "people": None if one.people is None else _absolute(one.people)}
        )
        for one in settings.cross
    )
    network = settings.network.model_copy(update={"models_dir": _absolute(settings.network.models_dir)})
    return settings.model_copy(
        update={
            "data": data.model_copy(update={"root": _absolute(data.root), "validation_ids": validation_ids}),
            "cross": cross,
            "mlflow": placed(settings.mlflow),
            "network": network,
        }
    )


def _absolute(path: Path) -> Path:
    return path.absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    return run_command("python -m training.reid", __doc__, ReidTrainingConfig, make_job, arguments)
