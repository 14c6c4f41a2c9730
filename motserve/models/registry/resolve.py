"""Resolves `models:/NAME@ALIAS` and `models:/NAME/VERSION` to files on this machine."""

from __future__ import annotations

import logging
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from motserve.config import MlflowConfig
from motserve.errors import MissingExtra, MotserveError, WeightsUnavailable
from motserve.files.atomic import write_json
from motserve.models.registry.card import read_card
from motserve.models.registry.store import Registry
from motserve.models.registry.version import Version

logger = logging.getLogger("motserve.models.registry")

_REFERENCE: Final = re.compile(r"models:/(?P<model>[^/@]+)(?:/(?P<number>\d+)|@(?P<alias>[\w-]+))")
_VERSIONS_FILE: Final = "versions.json"
_SHA_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to the registry in the configuration.

    Attributes:
        model: Name of the model.
        which: A version number or an alias.
    """

    model: str
    which: str

    @classmethod
    def parse(cls, name: str) -> Reference:
        """Parse a name.

        >>> Reference.parse("models:/yolov8_detector@production")
        Reference(model='yolov8_detector', which='production')

        Raises:
            WeightsUnavailable: It is malformed.
        """
        match = _REFERENCE.fullmatch(name)
        if match is None:
            raise WeightsUnavailable(f"{name} is not of the form models:/NAME@ALIAS or models:/NAME/VERSION")
        return cls(match["model"], match["number"] or match["alias"])


def pin(name: str, config: MlflowConfig, cache: Path) -> str:
    """Return the name of the current version of a name, and store it for `fetch`.

    Raises:
        WeightsUnavailable: The registry has no such version, or does not answer.
        MissingExtra: MLflow is not installed.
    """
    reference = Reference.parse(name)
    version = _ask(reference, config)
    _Cache(cache / reference.model).store_name(reference.which, version)
    return version.uri


def fetch(name: str, config: MlflowConfig, cache: Path, offline: bool = False) -> tuple[str, Path] | None:
    """Find the weights file of a version in the cache, or download it.

    If the registry does not answer, its last answer is used, so that a service starts without it.

    Args:
        name: The name.
        config: The registry.
        cache: Folder of downloaded versions.
        offline: Download nothing.

    Returns:
        The exact name of the version, and its file; None with `offline` if it is not in the cache.

    Raises:
        WeightsUnavailable: There is no such version, it is not available, or files in the cache were changed.
    """
    reference = Reference.parse(name)
    cached = _Cache(cache / reference.model)
    try:
        version = _ask(reference, config)
    except WeightsUnavailable as error:
        last_answer = cached.find(reference.which)
        if last_answer is None:
            raise
        number, folder = last_answer
        logger.warning("%s: the last known version is used, because the registry did not answer: %s", name, error)
        return f"models:/{reference.model}/{number}", folder / read_card(folder).weights
    folder = cached.folder(version)
    if not folder.is_dir():
        if offline:
            return None
        cached.download(Registry(config), version)
    cached.store_name(reference.which, version)
    return version.uri, folder / read_card(folder).weights


class _Cache:
    """The downloaded versions of one model, and the last known versions of its aliases.

    Args:
        folder: Folder of the cache.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, version: Version) -> Path:
        """Return the folder of a version, named by number and checksum, because two registries may use one number."""
        return self._folder / f"{version.number}-{version.sha256[:_SHA_DIGITS]}"

    def download(self, registry: Registry, version: Version) -> None:
        """Download to a temporary folder and move the finished version, so that an incomplete one is never found."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as temporary:
            downloaded = registry.download(version, Path(temporary))
            try:
                downloaded.replace(self.folder(version))
            except OSError:  # a folder cannot replace one that another process has finished in the meantime
                if not self.folder(version).is_dir():
                    raise

    def store_name(self, which: str, version: Version) -> None:
        """Store the current version of a number or alias."""
        names = {**self._names(), which: [version.number, self.folder(version).name]}
        if names != self._names():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._folder / _VERSIONS_FILE, names)

    def find(self, which: str) -> tuple[int, Path] | None:
        """Return number and folder of the last known version; None if it is unknown or not in the cache."""
        if which not in self._names():
            return None
        number, folder = self._names()[which]
        path = self._folder / str(folder)
        return (int(number), path) if path.is_dir() else None

    def _names(self) -> dict[str, tuple[int, str]]:
        try:
            names: dict[str, tuple[int, str]] = orjson.loads((self._folder / _VERSIONS_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return names


def _ask(reference: Reference, config: MlflowConfig) -> Version:
    try:
        return Registry(config).version(reference.model, reference.which)
    except MissingExtra:  # other weights in its place would hide it
        raise
    except MotserveError as error:
        raise WeightsUnavailable(str(error)) from error
