"""The one place where the libraries of the optional extra `detectors` are imported."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from motserve.errors import InvalidConfig


def import_extra(module: str) -> Any:
    """Return a module of the optional extra.

    Raises:
        InvalidConfig: It is not installed; the message says how to install it.
    """
    try:
        with warnings.catch_warnings():
            # effdet compiles a function while it is imported, in a way that torch calls outdated
            warnings.simplefilter("ignore", FutureWarning)
            return importlib.import_module(module)
    except ImportError as error:
        raise InvalidConfig(
            f"the configured detector needs {module.partition('.')[0]} ({error}): pip install 'motserve[detectors]'"
        ) from error
