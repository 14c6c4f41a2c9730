"""Chooses the library that runs a network on the CPU: PyTorch, or OpenVINO where it gives the same results."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from motserve.config.base import Backend, Role
from motserve.errors import InvalidConfig
from motserve.models.converted_networks import ConvertedNetworks, Graph
from motserve.models.provenance import describe_files, processor
from motserve.models.sample_pictures import sample_pictures
from motserve.models.weights import Weights, shown_name
from motserve.types import FloatArray

if TYPE_CHECKING:
    import torch

    from motserve.models.openvino_network import OpenVinoNetwork

logger = logging.getLogger("motserve.models")

TORCH: Final = "torch"
OPENVINO: Final = "openvino"

_FOLDER: Final = "openvino"
_DRIVERS: Final = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"), Path("/dev/kfd"))
"""Of NVIDIA, of Windows for its subsystem for Linux, and of AMD."""
_PACKAGE: Final = Path(__file__).parents[1]
_LIBRARIES: Final = ("openvino", "torch", "torchvision", "ultralytics")
_CODE: Final[Mapping[Role, tuple[str, ...]]] = {"detector": ("detection", "models"), "reid": ("reid", "models")}


class _NetworkConfig(Protocol):
    """The configuration of a detector or an embedder."""

    @property
    def backend(self) -> Backend: ...

    @property
    def device(self) -> str: ...


class _Differs(Exception):
    """The outputs of a converted network are not those of the original one."""


@dataclass(frozen=True, slots=True)
class Convertible:
    """A network that may be converted for OpenVINO.

    Attributes:
        role: What it is for.
        weights: Its weights.
        settings: Settings that the converted network depends on.
        build: Returns the network as a module that takes `(n, height, width, 3)` uint8 BGR and returns one tensor.
        any_size: Whether it takes pictures of other sizes than those of `samples`.
        samples: Number, height and width of the pictures of each comparison; with the last ones it is traced.
        facts: What is stored with the converted network; see `Graph`.
        difference: Says how two outputs differ, that of PyTorch first; empty where they agree.
    """

    role: Role
    weights: Weights
    settings: Mapping[str, Any]
    build: Callable[[], torch.nn.Module]
    any_size: bool
    samples: Sequence[tuple[int, int, int]]
    facts: Mapping[str, Any]
    difference: Callable[[FloatArray, FloatArray], str]


def choose_network(
    backend: Backend, device: str, convertible: Convertible, folder: Path | None
) -> OpenVinoNetwork | None:
    """Return a network for OpenVINO; None where PyTorch runs it.

    A network is converted once and compared with the original one on sample pictures. If OpenVINO cannot run it, or
    gives other results, `auto` logs the reason and chooses PyTorch.

    Args:
        backend: The configured backend. `auto` is PyTorch on a GPU.
        device: Device of the network, as returned by `choose_device`.
        convertible: The network.
        folder: `cache_dir`, for converted networks. Without one, or if nothing can be written there, `auto` is PyTorch:
            a conversion at each start would take longer than it saves.

    Raises:
        InvalidConfig: The backend is `openvino`, which cannot run the network or not on this device.
    """
    role, name = convertible.role, shown_name(convertible.weights.name)
    if backend == "openvino" and device != "cpu":
        raise InvalidConfig(
            f"{role}.backend openvino runs networks on the CPU, and {role}.device is {device}; "
            f"set {role}.device=cpu or {role}.backend=auto"
        )
    if backend == "torch" or device != "cpu" or (backend == "auto" and folder is None):
        return None
    stored = ConvertedNetworks(folder / _FOLDER) if folder is not None and convertible.weights.sha256 else None
    key = conversion_key(convertible.role, convertible.weights, convertible.settings)
    extra = {"role": role, "weights": name}
    if backend == "auto" and stored is not None and not stored.has(key) and not stored.is_writable():
        logger.warning("%s %s runs on PyTorch: %s cannot be written", role, name, folder, extra=extra)
        return None
    if backend == "auto" and stored is not None and (reason := stored.refusal(key)) is not None:
        logger.info("%s %s runs on PyTorch: %s", role, name, reason, extra=extra)
        return None
    try:
        return _load(stored, key) or _convert(convertible, stored, key, extra)
    except Exception as error:  # of any kind: of tracing, of converting, of compiling
        reason = str(error) if isinstance(error, _Differs) else f"{type(error).__name__}: {error}"
        if backend == "openvino":
            raise InvalidConfig(
                f"{role}.backend openvino: OpenVINO cannot run {convertible.weights.name}: {reason}; "
                f"set {role}.backend=auto or torch"
            ) from error
        logger.warning("%s %s runs on PyTorch: OpenVINO cannot run it: %s", role, name, reason, extra=extra)
        if stored is not None and not _may_go_away(error):
            stored.refuse(key, f"OpenVINO cannot run it: {reason}")
        return None


def _may_go_away(error: Exception) -> bool:
    """Return whether an error is of the machine and not of the network."""
    is_memory = isinstance(error, RuntimeError) and "memory" in str(error)  # of PyTorch and OpenVINO
    return is_memory or isinstance(error, OSError | ImportError | MemoryError)


def stored_network(
    role: Role, weights: Weights, settings: Mapping[str, Any], folder: Path | None
) -> OpenVinoNetwork | None:
    """Return a network that was converted before; None if there is none. PyTorch is not loaded.

    Args:
        role: What the network is for.
        weights: Its weights.
        settings: Settings that the converted network depends on.
        folder: `cache_dir`, with the converted networks; None if there is none.
    """
    if folder is None or not weights.sha256:
        return None
    try:
        return _load(ConvertedNetworks(folder / _FOLDER), conversion_key(role, weights, settings))
    except ImportError:  # `choose_network` says what that means
        return None


def is_stored(role: Role, weights: Weights, settings: Mapping[str, Any], folder: Path) -> bool:
    """Return whether a network was converted before."""
    return bool(weights.sha256) and ConvertedNetworks(folder / _FOLDER).has(conversion_key(role, weights, settings))


def runs_on_openvino(
    role: Role, config: _NetworkConfig, weights: Weights, settings: Mapping[str, Any], folder: Path | None
) -> bool:
    """Return whether OpenVINO will run a network, unless converting it fails the first time. PyTorch is not loaded.

    Args:
        role: What the network is for.
        config: Backend and device.
        weights: Its weights.
        settings: Settings that the converted network depends on.
        folder: `cache_dir`, with the converted networks; None if there is none.
    """
    if config.backend == "torch" or config.device.startswith(("cuda", "mps")):
        return False
    if config.device == "auto" and _may_have_gpu():
        return False
    if config.backend != "auto":
        return True
    if folder is None or is_refused(role, weights, settings, folder):
        return False
    return is_stored(role, weights, settings, folder) or ConvertedNetworks(folder / _FOLDER).is_writable()


def _may_have_gpu() -> bool:
    """Return whether PyTorch may have a GPU; to ask itself would take seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1") or library_version("torch").endswith("+cpu"):
        return False
    return any(path.exists() for path in _DRIVERS)


def is_refused(role: Role, weights: Weights, settings: Mapping[str, Any], folder: Path) -> bool:
    """Return whether an earlier conversion of a network has failed, so that `auto` is PyTorch."""
    return ConvertedNetworks(folder / _FOLDER).refusal(conversion_key(role, weights, settings)) is not None


def conversion_key(role: Role, weights: Weights, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a converted network, and whether it gives the same results, depend on, as a JSON document."""
    return {
        "role": role,
        "weights": weights.sha256,
        "settings": dict(settings),
        "libraries": {name: library_version(name) for name in _LIBRARIES},
        "code": _code_checksum(role),
        "processor": processor(),
    }


def library_version(name: str) -> str:
    """Return the version of an installed distribution; empty if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def describe_backend(name: str) -> dict[str, str]:
    """Return the library behind a loaded network, for the description of its weights.

    >>> describe_backend("")
    {'backend': ''}
    """
    return {"backend": f"{name} {library_version(name)}".rstrip() if name else ""}


def _load(stored: ConvertedNetworks | None, key: Mapping[str, Any]) -> OpenVinoNetwork | None:
    """Return a stored network; None if there is none that can be read."""
    graph = stored.load(key) if stored is not None else None
    if stored is None or graph is None:
        return None
    from motserve.models.openvino_network import OpenVinoNetwork

    try:
        return OpenVinoNetwork(graph)
    except ImportError:
        raise
    except Exception as error:
        logger.warning("a stored network for OpenVINO cannot be read and is made again: %s", error)
        stored.forget(key)
        return None


def _convert(
    convertible: Convertible, stored: ConvertedNetworks | None, key: Mapping[str, Any], extra: Mapping[str, str]
) -> OpenVinoNetwork:
    from motserve.models.openvino_conversion import convert
    from motserve.models.openvino_network import OpenVinoNetwork

    often = "once" if stored is not None else "at each start, as it is not stored"
    logger.info("converting %s %s for OpenVINO, %s", extra["role"], extra["weights"], often, extra=extra)
    module = convertible.build()
    graph: Graph = convert(module, convertible.samples[-1], convertible.any_size, convertible.facts)
    network = OpenVinoNetwork(graph)
    _compare(convertible, module, network)
    if stored is not None:
        stored.store(key, graph)
    return network


def _compare(convertible: Convertible, module: torch.nn.Module, network: OpenVinoNetwork) -> None:
    """Compare a converted network with the original one on sample pictures.

    Raises:
        _Differs: They do not agree.
    """
    import torch

    for count, height, width in convertible.samples:
        pictures = sample_pictures(count, height, width)
        with torch.inference_mode():
            expected = module(torch.from_numpy(pictures)).numpy()
        output = network(pictures)
        if output.shape != expected.shape:
            raise _Differs(f"its output is {output.shape} instead of {expected.shape}")
        if difference := convertible.difference(expected, output):
            raise _Differs(f"{difference} on pictures of {width}x{height}")


@cache
def _code_checksum(role: Role) -> str:
    """Return the checksum of the code that builds, converts and compares a network."""
    files = [file for part in _CODE[role] for file in (_PACKAGE / part).glob("**/*.py")]
    return str(describe_files(files, _PACKAGE)["sha256"])
