"""Checks of Python, packages, the GPU, backends and codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from motserve.cli.doctor.finding import Finding, State
from motserve.cli.doctor.probes import Ask, ProbeFailed

PACKAGES: Final = (
    "numpy", "torch", "torchvision", "opencv-python", "av", "ultralytics", "safetensors", "pydantic", "scipy", "lap",
)  # fmt: skip
"""Packages without which no video is tracked."""

SERVICE_PACKAGES: Final = ("ray", "fastapi", "httpx", "faiss-cpu", "python-multipart")
"""Packages that the service needs besides."""

TRAINING_PACKAGES: Final = ("ray", "mlflow", "pytorch-metric-learning", "pycocotools")
"""Packages that training and evaluation need besides."""

BACKENDS: Final[Mapping[str, str]] = {
    "ultralytics": "pip install ultralytics",
    "torchvision": "pip install torchvision",
    "onnxruntime": "pip install onnxruntime",
    "transformers": "pip install 'motserve[detectors]'",
    "effdet": "pip install 'motserve[detectors]'",
    "openvino": "pip install openvino",
    "tensorrt": "pip install tensorrt",
}
"""Modules that run networks, and how each is installed."""

_LEAST_PYTHON: Final = (3, 10)

Version = Callable[[str], "str | None"]
"""Returns the version of an installed package, None if it is not installed."""


def check_python(version: tuple[int, ...]) -> Finding:
    """Check Python's version."""
    text = ".".join(map(str, version[:3]))
    if version[:2] < _LEAST_PYTHON:
        return Finding("Python", "broken", text, "install Python 3.10 or later and motserve in it", required=True)
    return Finding("Python", "ok", text, required=True)


def check_packages(name: str, packages: Iterable[str], version: Version, required: bool, mend: str) -> Finding:
    """Check that packages are installed."""
    versions = {package: version(package) for package in packages}
    missing = [package for package, number in versions.items() if number is None]
    if missing:
        return Finding(
            name, "broken" if required else "limited", f"not installed: {', '.join(missing)}", mend, required
        )
    return Finding(name, "ok", ", ".join(f"{package} {number}" for package, number in versions.items()), "", required)


def check_torch(ask: Ask, has_nvidia: bool) -> Finding:
    """Check that PyTorch can be loaded, and whether it sees a GPU.

    Args:
        ask: Asks a library; see `probes.ask`.
        has_nvidia: NVIDIA's driver is installed.
    """
    name = "PyTorch, GPU"
    try:
        torch = ask("torch")
    except ProbeFailed as error:
        mend = "install it again: pip install --force-reinstall torch torchvision"
        return Finding(name, "broken", f"cannot be loaded: {error}", mend, required=True)
    version = f"torch {torch['version']}"
    if torch["devices"]:
        return Finding(name, "ok", f"{version}, CUDA {torch['cuda']}: {', '.join(torch['devices'])}", required=True)
    if torch["mps"]:
        return Finding(name, "ok", f"{version}, Apple's GPU: use --set detector.device=mps", required=True)
    if not has_nvidia:
        return Finding(name, "ok", f"{version}; no GPU, networks run on the CPU", required=True)
    mend = (
        "install the torch build for your driver's CUDA: https://pytorch.org/get-started/locally"
        if torch["cuda"] is None
        else "see whether `nvidia-smi` lists the GPU; update the driver, or in a container give it the GPU (--gpus all)"
    )
    built = "was built without CUDA" if torch["cuda"] is None else f"was built for CUDA {torch['cuda']}"
    return Finding(name, "limited", f"{version} {built} and sees no GPU, although NVIDIA's driver is here", mend, True)


def check_onnxruntime(ask: Ask) -> Finding:
    """Check the execution providers of ONNX Runtime."""
    try:
        providers = ask("onnxruntime")
    except ProbeFailed as error:
        mend = "install it again: pip install --force-reinstall onnxruntime"
        return Finding("ONNX Runtime", "limited", f"models in .onnx cannot be loaded: {error}", mend)
    return Finding("ONNX Runtime", "ok", ", ".join(name.removesuffix("ExecutionProvider") for name in providers))


def check_openvino(ask: Ask, backends: Mapping[str, str]) -> Finding:
    """Check that OpenVINO can be loaded, and which networks it runs.

    Args:
        ask: Asks a library; see `probes.ask`.
        backends: The configured backend of each network.
    """
    name = "OpenVINO"
    try:
        openvino = ask("openvino")
    except ProbeFailed as error:
        needed = [role for role, backend in backends.items() if backend == "openvino"]
        state: State = "broken" if needed else "limited"
        text = f"{', '.join(needed)} cannot run" if needed else "networks run on PyTorch, more slowly on a CPU"
        mend = "install it again: pip install --force-reinstall openvino"
        return Finding(name, state, f"cannot be loaded, {text}: {error}", mend, required=bool(needed))
    used = [role for role, backend in backends.items() if backend != "torch"]
    text = f"runs {' and '.join(used)} where no GPU does" if used else "not used, the backends are torch"
    return Finding(name, "ok", f"openvino {openvino['version']} on {openvino['processor']}; {text}")


def check_backends(installed: Callable[[str], bool]) -> Finding:
    """Check which libraries for networks are installed."""
    here = [name for name in BACKENDS if installed(name)]
    absent = [name for name in BACKENDS if name not in here]
    text = ", ".join(here) + (f"; not installed: {', '.join(absent)}" if absent else "")
    mend = "only if you want them: " + "; ".join(dict.fromkeys(BACKENDS[name] for name in absent)) if absent else ""
    return Finding("backends", "ok", text, mend)


def check_codecs(ask: Ask) -> Finding:
    """Check what PyAV decodes and encodes, by encoding and decoding a small video."""
    mend = "install PyAV's wheel from PyPI: pip install --force-reinstall --only-binary :all: av"
    try:
        works = ask("codecs")
    except ProbeFailed as error:
        return Finding("codecs", "broken", f"PyAV cannot be loaded: {error}", mend, required=True)
    fails = [name if " " in name else f"decode {name}" for name, fine in works.items() if not fine]
    if not fails:
        decoded = [name for name in works if " " not in name]
        return Finding("codecs", "ok", f"decodes {', '.join(decoded)}; encodes h264", required=True)
    nothing = not any(fine for name, fine in works.items() if " " not in name)
    return Finding("codecs", "broken" if nothing else "limited", f"cannot {', '.join(fails)}", mend, required=True)
