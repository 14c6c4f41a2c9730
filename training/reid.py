"""Trains an embedder on crops of people: `python -m training.reid --config configs/training/reid.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from motserve.errors import InvalidConfig
from motserve.mlflow_store import placed
from motserve.weights import REGISTRY
from training.command import run_command
from training.job import Job
from training.reid_config import ReidTrainingConfig
from training.reid_data import describe_training_data, list_tests, read_training_data
from training.reid_network import build_network, load_start
from training.reid_train import train_reid


def make_job(settings: ReidTrainingConfig) -> Job[ReidTrainingConfig]:
    """Return the job, once data and settings were found to fit together: workers are not started in vain.

    Args:
        settings: Everything that was set.

    Raises:
        NotFound: A folder or a file is not there.
        InvalidConfig: Settings do not fit the data, or the backbone the crops.
        InvalidData: Data are malformed or too few.
        WeightsUnavailable: The weights to start from cannot be had.
    """
    settings = _placed(settings)
    found = read_training_data(settings.data)
    if found.classes < settings.batch.identities:
        raise InvalidConfig(
            f"{settings.data.root} has {found.classes} people to learn from; batch.identities must not be above that"
        )
    list_tests(settings)
    described = describe_training_data(settings.data)
    network = build_network(settings.network, settings.crops)
    start = load_start(network, settings.network, settings.crops, settings.mlflow)
    if start is not None:
        described["init"] = start.describe()
        if start.name.startswith(REGISTRY):  # the version that an alias stands for now
            pinned = settings.network.model_copy(update={"init": start.name})
            settings = settings.model_copy(update={"network": pinned})
    return Job("reid", settings, train_reid, described)


def _placed(settings: ReidTrainingConfig) -> ReidTrainingConfig:
    """Make paths absolute, for workers that are in another folder."""
    data = settings.data
    apart = None if data.validation_ids is None else _absolute(data.validation_ids)
    cross = tuple(
        one.model_copy(
            update={"root": _absolute(one.root), "people": None if one.people is None else _absolute(one.people)}
        )
        for one in settings.cross
    )
    network = settings.network.model_copy(update={"models_dir": _absolute(settings.network.models_dir)})
    if network.init.endswith((".safetensors", ".pth")) and "/" in network.init:
        network = network.model_copy(update={"init": str(_absolute(Path(network.init)))})
    return settings.model_copy(
        update={
            "data": data.model_copy(update={"root": _absolute(data.root), "validation_ids": apart}),
            "cross": cross,
            "mlflow": placed(settings.mlflow),
            "network": network,
        }
    )


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    return run_command("python -m training.reid", __doc__, ReidTrainingConfig, make_job, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
