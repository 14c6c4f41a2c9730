"""Imports libraries that have side effects or may be missing."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

from motserve.errors import InvalidConfig

_ULTRALYTICS_ENVIRONMENT = {
    "YOLO_AUTOINSTALL": "false",  # a service never installs packages by itself
    "YOLO_VERBOSE": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",  # checkpoints are read with weights_only and a list of known classes
}


def import_ultralytics() -> Any:
    """Return the `ultralytics` module. Its environment is set before the import; variables of the user win."""
    for name, value in _ULTRALYTICS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ultralytics
    from ultralytics.nn import tasks
    from ultralytics.utils import env_bool

    # a host application may have imported it before, with pickles allowed
    tasks.SAFE_LOAD = env_bool("ULTRALYTICS_SAFE_LOAD")  # type: ignore[attr-defined]
    return ultralytics


def import_extra(module: str, extra: str = "detectors", required_by: str = "the configured detector") -> Any:
    """Return a module of an optional extra.

    Args:
        module: The module.
        extra: The extra that contains it.
        required_by: What requires it, for the message.

    Raises:
        InvalidConfig: It is not installed; the message says how to install it.
    """
    try:
        with warnings.catch_warnings():
            # at import, effdet compiles a function in a way that torch deprecates
            warnings.simplefilter("ignore", FutureWarning)
            return importlib.import_module(module)
    except ImportError as error:
        raise InvalidConfig(
            f"{required_by} needs {module.partition('.')[0]} ({error}): pip install 'motserve[{extra}]'"
        ) from error


def import_package(module: str, required_by: str) -> Any:
    """Return a module of a package that no extra of motserve contains.

    Args:
        module: The module; the package has the same name.
        required_by: What requires it, for the message.

    Raises:
        InvalidConfig: It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InvalidConfig(f"{required_by} needs {module} ({error}): pip install {module}") from error
