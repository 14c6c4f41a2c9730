"""Turns `models:/NAME@ALIAS` and `models:/NAME/VERSION` into files on this machine."""

from __future__ import annotations

import logging
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from motserve.config import MlflowConfig
from motserve.errors import MotserveError, WeightsUnavailable
from motserve.files.atomic import write_json
from motserve.models.registry.card import read_card
from motserve.models.registry.store import Registry
from motserve.models.registry.version import Version

logger = logging.getLogger("motserve.models.registry")

_REFERENCE: Final = re.compile(r"models:/(?P<model>[^/@]+)(?:/(?P<number>\d+)|@(?P<alias>[\w-]+))")
_KNOWN: Final = "versions.json"
_SHA_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Reference:
    """What a name in the configuration asks the registry for.

    Attributes:
        model: Name of the model.
        which: A number or an alias.
    """

    model: str
    which: str

    @classmethod
    def parse(cls, name: str) -> Reference:
        """Read a name.

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
    """Return the name of exactly the version that a name stands for now, and remember it for `fetch`.

    Raises:
        WeightsUnavailable: The registry has none, or cannot be asked.
    """
    reference = Reference.parse(name)
    version = _ask(reference, config)
    _Known(cache / reference.model).remember(reference.which, version)
    return version.uri


def fetch(name: str, config: MlflowConfig, cache: Path, offline: bool = False) -> tuple[str, Path] | None:
    """Find the file of weights of a version in the cache, or download it.

    Where the registry cannot be asked, what it said last is taken: a service must start without it.

    Args:
        name: What is asked for.
        config: The registry.
        cache: Folder for versions that were downloaded.
        offline: Download nothing.

    Returns:
        The name of exactly that version, and its file; None where it is not here and nothing shall be downloaded.

    Raises:
        WeightsUnavailable: There is no such version, it cannot be had, or what the cache holds was changed.
    """
    reference = Reference.parse(name)
    known = _Known(cache / reference.model)
    try:
        version = _ask(reference, config)
    except WeightsUnavailable as error:
        remembered = known.find(reference.which)
        if remembered is None:
            raise
        number, folder = remembered
        logger.warning("%s: taken as it was when the registry answered last, %s", name, error)
        return f"models:/{reference.model}/{number}", folder / read_card(folder).weights
    folder = known.folder(version)
    if not folder.is_dir():
        if offline:
            return None
        known.download(Registry(config), version)
    known.remember(reference.which, version)
    return version.uri, folder / read_card(folder).weights


class _Known:
    """The versions of one model that were downloaded, and what its aliases stood for.

    Args:
        folder: Their folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, version: Version) -> Path:
        """Return the folder of a version. Registries may use one number for different weights, so it has both."""
        return self._folder / f"{version.number}-{version.sha256[:_SHA_DIGITS]}"

    def download(self, registry: Registry, version: Version) -> None:
        """Download into a folder of its own and move what is finished, so that no half of it is ever found."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as part:
            there = registry.download(version, Path(part))
            try:
                there.replace(self.folder(version))
            except OSError:  # a folder cannot take the place of one that another process has finished in the meantime
                if not self.folder(version).is_dir():
                    raise

    def remember(self, which: str, version: Version) -> None:
        """Keep what a name stands for."""
        names = {**self._names(), which: [version.number, self.folder(version).name]}
        if names != self._names():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._folder / _KNOWN, names)

    def find(self, which: str) -> tuple[int, Path] | None:
        """Return number and folder of what a name stood for; None where it was never asked for or is not here."""
        if which not in self._names():
            return None
        number, folder = self._names()[which]
        there = self._folder / str(folder)
        return (int(number), there) if there.is_dir() else None

    def _names(self) -> dict[str, tuple[int, str]]:
        try:
            names: dict[str, tuple[int, str]] = orjson.loads((self._folder / _KNOWN).read_bytes())
        except (OSError, ValueError):
            return {}
        return names


def _ask(reference: Reference, config: MlflowConfig) -> Version:
    try:
        return Registry(config).version(reference.model, reference.which)
    except MotserveError as error:
        raise WeightsUnavailable(str(error)) from error
