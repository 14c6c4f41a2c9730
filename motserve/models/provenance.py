"""Provenance of a result: code, settings, weights, data, machine and time."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from motserve import __version__
from motserve.config import Config
from motserve.files.atomic import write_json
from motserve.files.names import encodable, readable
from motserve.models.checksums import checksum
from motserve.models.credentials import without_credentials

LIBRARIES = (
    "numpy", "scipy", "lap", "opencv-python", "av", "torch", "torchvision", "ultralytics", "onnxruntime", "openvino",
)  # fmt: skip
"""Libraries whose versions can change any result; callers add those that they use besides."""

_STAMP_SUFFIX = ".provenance.json"
_GIT_TIMEOUT_S = 10.0


def stamp(
    config: Config,
    *,
    weights: Mapping[str, Mapping[str, str] | None] | None = None,
    data: Mapping[str, Mapping[str, Any]] | None = None,
    libraries: Iterable[str] = (),
    notes: Mapping[str, Any] | None = None,
    sections: Iterable[str] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> dict[str, Any]:
    """Return the provenance of a result as a JSON document.

    Args:
        config: The configuration of the result.
        weights: `Weights.describe` of each model used, by role; None for a role without a model.
        data: `describe_files` of each part of the data, by name.
        libraries: Distributions behind the result, besides `LIBRARIES`.
        notes: Other information that is needed to reproduce it.
        sections: Sections of the configuration that affect the result; None for all.
        clock: Returns the current time with its time zone.

    Returns:
        `motserve` (version, commit, whether the checkout differs from it), `date`, `command`, `machine`,
        `libraries`, `config`, `weights`, `data`, and the notes.
    """
    provenance: dict[str, Any] = without_credentials(
        encodable(
            {
                "motserve": {"version": __version__, **describe_checkout(Path(__file__).parents[1])},
                "date": clock().isoformat(timespec="seconds"),
                "command": [Path(sys.argv[0]).name, *(_masked(word, config) for word in sys.argv[1:])],
                "machine": describe_machine(),
                "libraries": {
                    name: installed for name in (*LIBRARIES, *libraries) if (installed := _version(name)) is not None
                },
                "config": config.model_dump(mode="json", include=None if sections is None else set(sections)),
                "weights": weights or {},
                "data": data or {},
                **(notes or {}),
            }
        )
    )
    return provenance


def _masked(word: str, config: Config) -> str:
    token = config.serving.admin_token
    return word if token is None else word.replace(token.get_secret_value(), str(token))


def write_stamp(result: Path, provenance: Mapping[str, Any]) -> None:
    """Write the provenance beside a result that cannot contain it: `tracks.provenance.json` beside `tracks.txt`.

    Args:
        result: The finished file; its checksum is added.
        provenance: The provenance.
    """
    write_json(result.with_suffix(_STAMP_SUFFIX), {**provenance, "result": _identify(result)})


def stamp_of(result: Path) -> dict[str, Any] | None:
    """Return the provenance in or beside a result; None if it is missing, unreadable or of another file."""
    inside = result.suffix == ".json"
    try:
        document = orjson.loads((result if inside else result.with_suffix(_STAMP_SUFFIX)).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or (not inside and document.get("result") != _identify(result)):
        return None
    provenance = document.get("provenance") if inside else document
    return provenance if isinstance(provenance, dict) else None


def _identify(result: Path) -> dict[str, str]:
    return {"file": readable(result.name), "sha256": checksum(result)}


def describe_files(paths: Iterable[Path], root: Path | None = None) -> dict[str, Any]:
    """Return number, size and checksum of files or folders.

    Args:
        paths: The files; a folder means all files below it.
        root: Folder that the names in the checksum are relative to. Without it a single file has its plain SHA-256 as
            printed by `sha256sum`, and several files have their names without folders.

    Returns:
        `files`, `bytes` and `sha256`. The checksum of several files is that of the output of `sha256sum` for them,
        sorted by name.
    """
    candidates = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    files = [file for file in dict.fromkeys(candidates) if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if len(files) == 1 and root is None:
        return {"files": 1, "bytes": size, "sha256": checksum(files[0])}
    names = [Path(os.path.relpath(file, root)).as_posix() if root else file.name for file in files]
    lines = sorted(zip(names, map(checksum, files), strict=True))
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in lines)
    return {"files": len(files), "bytes": size, "sha256": hashlib.sha256(os.fsencode(text)).hexdigest()}


def describe_checkout(package: Path) -> dict[str, Any]:
    """Return the git commit of a package and whether the code differs from it; None for both outside a checkout.

    The code differs if a file of the checkout was changed, or one was added to the package.

    Args:
        package: Folder of the package. It must be a tracked folder at the top of a checkout: a copy in a virtual
            environment inside another checkout is not the code of that checkout.
    """
    unknown: dict[str, Any] = {"commit": None, "dirty": None}
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() / package.name != package.resolve():
        return unknown
    if _git(package, "ls-files", "--error-unmatch", ".") is None:
        return unknown
    commit = _git(package, "rev-parse", "HEAD")
    changes = _git(package, "status", "--porcelain", "--untracked-files=no")
    additions = _git(package, "ls-files", "--others", "--exclude-standard", ".")
    if commit is None or changes is None or additions is None:
        return unknown
    return {"commit": commit, "dirty": bool(changes or additions)}


def describe_machine() -> dict[str, Any]:
    """Return system, processor, cores, memory in GiB and CUDA devices of this machine."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
    }


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _gpus() -> list[str]:
    """Return the names of the CUDA devices if torch is loaded; results without torch do not use a GPU."""
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
