"""Converts the network of a replica in a process of its own.

PyTorch, which the conversion needs, would stay in the replica's memory, and its work would hold up the requests of
running videos while another model is loaded.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from motserve.config import Config, DetectorConfig, ReIDConfig
from motserve.config.base import Role
from motserve.detection import build_detector
from motserve.detection.backend import CONVERTED_SETTINGS, expected_backend
from motserve.models.backend import OPENVINO, is_stored
from motserve.models.weights import Weights, shown_name
from motserve.reid import build_embedder, openvino_embedder
from motserve.reid.openvino_embedder import conversion_settings, is_stored_format

logger = logging.getLogger("motserve.models")

_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from motserve.serving.inference import conversion; conversion.main()"
)
"""It imports from the places of this process and from no other."""
_LIMIT_S: Final = 600.0
"""Seconds after which a conversion is given up; some seconds are usual."""


def convert_apart(role: Role, config: Config, weights: Weights) -> None:
    """Convert a network for OpenVINO unless that is done, or PyTorch runs it. Building the model loads the result.

    If the process fails, nothing is stored: the model is then converted where it is built, which reports the reason.

    Args:
        role: What the network is for.
        config: The configuration.
        weights: The weights.
    """
    folder, section = config.cache_dir, config.detector if role == "detector" else config.reid
    if not _is_to_convert(section, weights, folder):
        return
    extra = {"role": role, "weights": weights.name}
    logger.info("converting %s %s for OpenVINO, once", role, shown_name(weights.name), extra=extra)
    order = {
        "section": section.model_dump(mode="json"),
        "weights": {**asdict(weights), "path": str(weights.path)},
        "folder": str(folder),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), role],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("the process that converts %s failed: %s", weights.name, error, extra=extra)
        return
    for line in done.stdout.splitlines():
        logger.warning("%s", line, extra=extra)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        logger.warning("the process that converts %s failed: %s", weights.name, reason, extra=extra)


def main() -> None:
    """Convert what the standard input names; warnings go to the standard output."""
    printing = logging.StreamHandler(sys.stdout)
    printing.setLevel(logging.WARNING)
    logging.getLogger("motserve").addHandler(printing)
    order: dict[str, Any] = json.load(sys.stdin)
    weights = Weights(**{**order["weights"], "path": Path(order["weights"]["path"])})
    folder = Path(order["folder"])
    if sys.argv[2] == "detector":
        build_detector(DetectorConfig.model_validate(order["section"]), weights, folder)
    else:
        build_embedder(ReIDConfig.model_validate(order["section"]), weights, folder)


def _is_to_convert(section: DetectorConfig | ReIDConfig, weights: Weights, folder: Path) -> bool:
    if isinstance(section, DetectorConfig):
        expected = expected_backend(section, weights, folder) == OPENVINO
        return expected and not is_stored("detector", weights, CONVERTED_SETTINGS, folder)
    expected = is_stored_format(weights) and openvino_embedder.expected_backend(section, weights, folder) == OPENVINO
    return expected and not is_stored("reid", weights, conversion_settings(section), folder)
