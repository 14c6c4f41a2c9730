"""Imports packages that only an extra of motserve installs, and names the extra where one is missing.

The plain installation tracks a video and talks to a service. All else, such as Ray and MLflow, comes with an extra:
docs/install.md. Code that needs such a package imports it where it is used, within `required_extra`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from motserve.errors import MissingExtra

_OWN: Final = frozenset({"motserve", "training"})


@contextmanager
def required_extra(extra: str, required_by: str) -> Iterator[None]:
    """Turn a failed import into one sentence that says which command installs the package.

    Args:
        extra: The extra that installs the packages imported inside.
        required_by: What requires them, for the message.

    Raises:
        MissingExtra: A package is not installed, or cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OWN:  # a defect of motserve, which no installation mends
            raise
        needs = f"{required_by} needs {package} ({error})" if package else f"{required_by} fails: {error}"
        raise MissingExtra(f"{needs}: pip install 'motserve[{extra}]'") from error


def require_installed(package: str, extra: str, required_by: str) -> None:
    """Refuse a request whose package is missing before the work begins, without importing it.

    Args:
        package: The package.
        extra: The extra that installs it.
        required_by: What requires it, for the message.

    Raises:
        MissingExtra: It is not installed.
    """
    with required_extra(extra, required_by):
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def import_extra(module: str, extra: str = "detectors", required_by: str = "the configured detector") -> Any:
    """Return a module of an extra.

    Args:
        module: The module.
        extra: The extra that installs it.
        required_by: What requires it, for the message.

    Raises:
        MissingExtra: It is not installed; the message says how to install it.
    """
    with required_extra(extra, required_by), warnings.catch_warnings():
        # at import, effdet compiles a function in a way that torch deprecates
        warnings.simplefilter("ignore", FutureWarning)
        return importlib.import_module(module)


def import_package(module: str, required_by: str) -> Any:
    """Return a module of a package that no extra of motserve contains.

    Args:
        module: The module; the package has the same name.
        required_by: What requires it, for the message.

    Raises:
        MissingExtra: It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{required_by} needs {module} ({error}): pip install {module}") from error
