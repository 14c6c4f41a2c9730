"""Questions that only a library can answer, asked in processes of their own.

A library that is broken may hang or end its process; the doctor must survive that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

LIMIT_S: Final = 60.0
"""The first import of PyTorch from a slow disk takes most of it."""


class ProbeFailed(Exception):
    """A library could not be asked; the message is its last line of output."""


def ask(question: str, limit_s: float = LIMIT_S) -> Any:
    """Ask a question in a process of its own.

    Args:
        question: Name of a function of this module without `ask_`.
        limit_s: Maximum duration in seconds.

    Raises:
        ProbeFailed: The library is not installed, broken, or too slow.
    """
    script = f"import json; from motserve.cli.doctor import probes; print(json.dumps(probes.ask_{question}()))"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeFailed(f"no answer in {limit_s:g} s") from error
    if answer.returncode:
        lines = answer.stderr.strip().splitlines()
        raise ProbeFailed(lines[-1] if lines else f"its process ended with code {answer.returncode}")
    return json.loads(answer.stdout.splitlines()[-1])


def ask_torch() -> dict[str, Any]:
    """Return PyTorch's version, the CUDA version it was built with, and the names of usable GPUs."""
    import torch
    import torchvision

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
        "devices": devices,
        "mps": bool(torch.backends.mps.is_available()),
    }


def ask_onnxruntime() -> list[str]:
    """Return the execution providers of ONNX Runtime."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def ask_openvino() -> dict[str, str]:
    """Return OpenVINO's version and the processor that it runs networks on."""
    from motserve.models.libraries import import_openvino

    openvino = import_openvino()
    processor = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    return {"version": str(openvino.__version__).partition("-")[0], "processor": " ".join(processor.split())}


def ask_codecs() -> dict[str, bool]:
    """Return whether PyAV decodes H.264, HEVC, VP9 and AV1, and whether it encodes H.264."""
    import av

    encoders = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
    works = {name: _decodes(av, name, encoder) for name, encoder in encoders.items()}
    return {**works, "encode h264": "libx264" in av.codecs_available}


def _decodes(av: Any, name: str, encoder: str) -> bool:
    """Encode a picture and decode it; without an encoder for it, look for the decoder only."""
    decoder = "libdav1d" if name == "av1" and "libdav1d" in av.codecs_available else name
    if encoder not in av.codecs_available:
        return _has_decoder(av, decoder)
    from fractions import Fraction

    try:
        writer = av.CodecContext.create(encoder, "w")
        writer.width = writer.height = 64
        writer.pix_fmt, writer.time_base = "yuv420p", Fraction(1, 25)
        reader = av.CodecContext.create(decoder, "r")
        pictures = [av.VideoFrame(64, 64, "yuv420p") for _ in range(2)]
        for number, picture in enumerate(pictures):
            for plane in picture.planes:
                plane.update(bytes(plane.buffer_size))
            picture.pts = number
        packets = [packet for picture in [*pictures, None] for packet in writer.encode(picture)]
        return sum(len(reader.decode(packet)) for packet in [*packets, None]) == len(pictures)
    except (av.FFmpegError, ValueError):
        return False


def _has_decoder(av: Any, name: str) -> bool:
    try:
        av.Codec(name, "r")
    except (av.FFmpegError, ValueError):
        return False
    return True


Ask = Callable[[str], Any]
"""Answers a question, as `ask` does."""
