"""Imports libraries whose import has side effects."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    _send_no_usage_data()  # it imports OpenVINO for models that were exported for it
    import ultralytics
    from ultralytics.nn import tasks
    from ultralytics.utils import env_bool

    # a host application may have imported it before, with pickles allowed
    tasks.SAFE_LOAD = env_bool("ULTRALYTICS_SAFE_LOAD")  # type: ignore[attr-defined]
    return ultralytics


def import_openvino() -> Any:
    """Return the `openvino` module.

    Raises:
        ImportError: It is not installed, or this machine cannot load it.
    """
    _send_no_usage_data()
    import openvino

    return openvino


@contextmanager
def keeping_threads() -> Iterator[None]:
    """Restore the number of PyTorch's threads at the end.

    Ultralytics sets it to one less than there are cores when it prepares a predictor, and one core would be idle.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _send_no_usage_data() -> None:
    """Keep OpenVINO from sending usage data to its publisher, which it does at each import unless the user opted out.

    It goes on without the package that sends them. A host application that imported that package keeps it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
