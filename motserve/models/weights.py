"""Resolves the names of weights in the configuration to local files with checksums.

A name is searched as a path, in the models folder, in the cache, and last at its publisher. If it is not available, the
next name of the list is used, and this fallback is recorded in the log and in every result.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from motserve.config import Config
from motserve.config.base import Role
from motserve.errors import WeightsUnavailable
from motserve.files.names import encodable, readable
from motserve.models.checksums import checksum
from motserve.models.downloads import HUB, cached_name, detector_download, embedder_download, fetch

logger = logging.getLogger("motserve.models.weights")

BUNDLED: Final = "bundled"
BUNDLED_FREE: Final = "bundled-free"
SHIPPED: Final[Mapping[str, Mapping[Role, str]]] = {
    BUNDLED: {"detector": "detector.safetensors", "reid": "embedder.safetensors"},
    BUNDLED_FREE: {"detector": "detector-free.safetensors", "reid": "embedder-free.safetensors"},
}
"""Files of the weights in the package, by their name in the configuration."""

_PYTHON = frozenset({".pt", ".pth"})
"""Suffixes of weights that Python opens itself, so that their paths may have any bytes."""
REGISTRY = "models:/"


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that are on this machine.

    Attributes:
        name: Their name in the configuration; for the registry, the exact version.
        path: The file, or the folder of an exported model.
        sha256: Checksum of the file; for a folder, of its files in order of their names.
        fallback: Why preferred names could not be used; empty if the first name was used.
    """

    name: str
    path: Path
    sha256: str
    fallback: str

    def describe(self) -> dict[str, str]:
        """Return the metadata for a result, without paths of this machine."""
        return {"name": shown_name(self.name), "sha256": self.sha256, "fallback": self.fallback}


def shown_name(name: str) -> str:
    """Return the name of weights in results, without paths of this machine.

    >>> shown_name("models:/yolov8_detector/7"), shown_name("/srv/models/yolov8s.pt")
    ('yolov8_detector/7', 'yolov8s.pt')
    """
    return readable(name.removeprefix(REGISTRY) if name.startswith(REGISTRY) else Path(name).name)


def is_alias(name: str) -> bool:
    """Return whether a name is an alias of the registry, which may move to another version.

    >>> is_alias("models:/yolov8_detector@production"), is_alias("models:/yolov8_detector/7")
    (True, False)
    """
    return name.startswith(REGISTRY) and "@" in name


def resolve_weights(role: Role, config: Config) -> Weights:
    """Find the weights of the detector or the embedder, and download them if necessary.

    Args:
        role: Which model the weights are for.
        config: The configuration; `detector.weights` or `reid.weights`, `models_dir` and `cache_dir` are used.

    Returns:
        The first available weights of the list.

    Raises:
        WeightsUnavailable: None is available, or an explicit path does not exist.
    """
    failures: list[str] = []
    for name in _configured(role, config):
        try:
            exact_name, path = _locate(role, name, config)
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
            raise WeightsUnavailable(
                f"{path}: the library for these weights cannot open a path that is not UTF-8; rename it"
            )
        return Weights(exact_name, path, checksum(path), "; ".join(failures))
    raise WeightsUnavailable(f"no {role} weights are available: {'; '.join(failures)}")


def find_weights(role: Role, config: Config) -> list[tuple[str, Weights | None]]:
    """Search every configured name without downloading; None means that the weights are not on this machine."""
    located = ((name, _find(role, name, config)) for name in _configured(role, config))
    return [(name, Weights(*local, checksum(local[1]), "") if local else None) for name, local in located]


def pin_weights(role: Role, config: Config) -> tuple[str, ...]:
    """Return the configured names with each alias of the registry replaced by its current version.

    Names that the registry does not know are unchanged, and all names are if it does not answer.
    """
    return tuple(_pinned(name, config) for name in _configured(role, config))


def _configured(role: Role, config: Config) -> Sequence[str]:
    return config.detector.weights if role == "detector" else config.reid.weights


def _is_path(name: str) -> bool:
    return name not in SHIPPED and not name.startswith((HUB, REGISTRY)) and os.sep in name


def _cache(config: Config) -> Path:
    return config.cache_dir / "weights"


def _find(role: Role, name: str, config: Config) -> tuple[str, Path] | None:
    """Return the exact name and path of weights on this machine, None if they are not here."""
    if name in SHIPPED:
        bundled = Path(str(resources.files("motserve.models.bundled") / SHIPPED[name][role]))
        return (name, bundled) if bundled.is_file() else None
    if name.startswith(REGISTRY):
        from motserve.models.registry import resolve

        try:
            return resolve.fetch(name, config.mlflow, _cache(config) / "registry", offline=True)
        except WeightsUnavailable:
            return None
    explicit, cached = Path(name), cached_name(name)
    others = () if _is_path(name) else (config.models_dir / cached, _cache(config) / cached)
    # a device may be endless
    existing = (path for path in (explicit, *others) if path.is_file() or path.is_dir())
    return next(((name, path) for path in existing), None)


def _locate(role: Role, name: str, config: Config) -> tuple[str, Path]:
    if name.startswith(REGISTRY):
        from motserve.models.registry import resolve

        fetched = resolve.fetch(name, config.mlflow, _cache(config) / "registry")
        assert fetched is not None
        return fetched
    local = _find(role, name, config)
    if local is not None:
        return local
    if _is_path(name):
        what = "are a pipe or a device" if Path(name).exists() else "do not exist"
        raise WeightsUnavailable(f"{role} weights {name} {what}")
    if name in SHIPPED:
        raise WeightsUnavailable(f"this installation of motserve has no {name} {role} weights")
    download = detector_download(name) if role == "detector" else embedder_download(name)
    if download is None:
        raise WeightsUnavailable(f"{name} is neither in models_dir nor in the cache, and no known publisher has it")
    return name, fetch(name, download, _cache(config) / cached_name(name))


def _pinned(name: str, config: Config) -> str:
    if not name.startswith(REGISTRY):
        return name
    from motserve.models.registry import resolve

    try:
        return resolve.pin(name, config.mlflow, _cache(config) / "registry")
    except WeightsUnavailable as error:
        logger.warning("%s is not pinned to a version: %s", name, error, extra={"weights": name})
        return name
