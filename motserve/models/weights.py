"""Turns the names of weights in the configuration into local, checksummed files.

A name is looked for as a path, in the models folder, in the cache, and last at the library that publishes it. What
cannot be had falls back to the next name of the list, and the fallback is said in the log and in every result.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from motserve.config import Config
from motserve.config.base import Role
from motserve.errors import WeightsUnavailable
from motserve.files.names import encodable, readable
from motserve.models.checksums import checksum
from motserve.models.downloads import HUB, cached_name, detector_download, embedder_download, fetch

logger = logging.getLogger("motserve.models.weights")

BUNDLED = "bundled"
_PYTHON = frozenset({".pt", ".pth"})
"""Weights that Python opens itself, by a name of any bytes."""
REGISTRY = "models:/"
_BUNDLED_FILES: Mapping[Role, str] = {"detector": "detector.safetensors", "reid": "embedder.safetensors"}


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that are on this machine.

    Attributes:
        name: The name in the configuration that they were found by; of the registry's, the exact version.
        path: The file, or the folder of an exported model.
        sha256: Checksum of the file; of a folder, the checksum over its files in order of their names.
        fallback: Why a name that was preferred could not be used; empty where the first choice was found.
    """

    name: str
    path: Path
    sha256: str
    fallback: str

    def describe(self) -> dict[str, str]:
        """Return what belongs into the metadata of a result: everything but places on this machine."""
        return {"name": shown_name(self.name), "sha256": self.sha256, "fallback": self.fallback}


def shown_name(name: str) -> str:
    """Return what results call weights of a name: nothing of places on this machine.

    >>> shown_name("models:/yolov8_detector/7"), shown_name("/srv/models/yolov8s.pt")
    ('yolov8_detector/7', 'yolov8s.pt')
    """
    return readable(name.removeprefix(REGISTRY) if name.startswith(REGISTRY) else Path(name).name)


def is_alias(name: str) -> bool:
    """Tell whether the registry may mean another version by a name tomorrow.

    >>> is_alias("models:/yolov8_detector@production"), is_alias("models:/yolov8_detector/7")
    (True, False)
    """
    return name.startswith(REGISTRY) and "@" in name


def resolve_weights(role: Role, config: Config) -> Weights:
    """Find the weights of the detector or the embedder, downloading them where that is needed and possible.

    Args:
        role: Which model the weights are for.
        config: The configuration; `detector.weights` or `reid.weights`, `models_dir` and `cache_dir` are used.

    Returns:
        The first weights of the list that can be had.

    Raises:
        WeightsUnavailable: None can be had, or an explicit path does not exist.
    """
    failures: list[str] = []
    for name in _configured(role, config):
        try:
            found, path = _locate(role, name, config)
        except WeightsUnavailable as error:
            if _is_path(name):
                raise
            failures.append(str(error))
            continue
        if failures:
            logger.warning(
                "%s weights fall back to %s: %s", role, name, "; ".join(failures), extra={"role": role, "weights": name}
            )
        if path.suffix not in _PYTHON and encodable(str(path)) != str(path):
            raise WeightsUnavailable(f"{path}: the library for such weights opens no path that is not UTF-8; rename it")
        return Weights(found, path, checksum(path), "; ".join(failures))
    raise WeightsUnavailable(f"no {role} weights can be had: {'; '.join(failures)}")


def find_weights(role: Role, config: Config) -> list[tuple[str, Weights | None]]:
    """Look for every configured name without downloading; None stands for weights that are not on this machine."""
    found = ((name, _find(role, name, config)) for name in _configured(role, config))
    return [(name, Weights(hit[0], hit[1], checksum(hit[1]), "") if hit else None) for name, hit in found]


def pin_weights(role: Role, config: Config) -> tuple[str, ...]:
    """Return the configured names with each alias of the registry replaced by the version that it stands for now.

    What the registry does not know, or cannot be asked for, stays as it is.
    """
    return tuple(_pinned(name, config) for name in _configured(role, config))


def _configured(role: Role, config: Config) -> Sequence[str]:
    return config.detector.weights if role == "detector" else config.reid.weights


def _is_path(name: str) -> bool:
    return name != BUNDLED and not name.startswith((HUB, REGISTRY)) and os.sep in name


def _cache(config: Config) -> Path:
    return config.cache_dir / "weights"


def _find(role: Role, name: str, config: Config) -> tuple[str, Path] | None:
    """Return the exact name and the place of weights that are on this machine, None for those that are not."""
    if name == BUNDLED:
        bundled = Path(str(resources.files("motserve.models.bundled") / _BUNDLED_FILES[role]))
        return (name, bundled) if bundled.is_file() else None
    if name.startswith(REGISTRY):
        from motserve.models.registry import resolve

        try:
            return resolve.fetch(name, config.mlflow, _cache(config) / "registry", offline=True)
        except WeightsUnavailable:
            return None
    explicit, cached = Path(name), cached_name(name)
    others = () if _is_path(name) else (config.models_dir / cached, _cache(config) / cached)
    there = (place for place in (explicit, *others) if place.is_file() or place.is_dir())  # a device may have no end
    return next(((name, place) for place in there), None)


def _locate(role: Role, name: str, config: Config) -> tuple[str, Path]:
    if name.startswith(REGISTRY):
        from motserve.models.registry import resolve

        fetched = resolve.fetch(name, config.mlflow, _cache(config) / "registry")
        assert fetched is not None
        return fetched
    found = _find(role, name, config)
    if found is not None:
        return found
    if _is_path(name):
        what = "are a pipe or a device" if Path(name).exists() else "do not exist"
        raise WeightsUnavailable(f"{role} weights {name} {what}")
    if name == BUNDLED:
        raise WeightsUnavailable(f"this installation of motserve has no bundled {role} weights")
    download = detector_download(name) if role == "detector" else embedder_download(name)
    if download is None:
        raise WeightsUnavailable(f"{name} is neither in models_dir nor in the cache, and nobody publishes it")
    return name, fetch(name, download, _cache(config) / cached_name(name))


def _pinned(name: str, config: Config) -> str:
    if not name.startswith(REGISTRY):
        return name
    from motserve.models.registry import resolve

    try:
        return resolve.pin(name, config.mlflow, _cache(config) / "registry")
    except WeightsUnavailable as error:
        logger.warning("%s stays as it is: %s", name, error, extra={"weights": name})
        return name
