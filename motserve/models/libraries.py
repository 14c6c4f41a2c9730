"""Imports libraries whose import has side effects."""

from __future__ import annotations

import os
from typing import Any

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
