"""The stamp on a result: which code, settings, weights, data and machine a number came from, and when."""

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

LIBRARIES = ("numpy", "scipy", "lap", "opencv-python", "av", "torch", "torchvision", "ultralytics", "onnxruntime")
"""Libraries whose versions can move any result; whoever uses others names them as well."""

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
    """Describe where a result comes from, ready for JSON.

    Args:
        config: The configuration behind it.
        weights: What `Weights.describe` says of each model used, by role; None where a role has none.
        data: What `describe_files` says of each part of the data, by name.
        libraries: Distributions that made the result, besides `LIBRARIES`.
        notes: Anything else that a reader needs to repeat it.
        sections: Sections of the configuration that had a part in the result; None for all.
        clock: The present, with its time zone.

    Returns:
        `motserve` (version, commit, whether the checkout was changed since), `date`, `command`, `machine`,
        `libraries`, `config`, `weights`, `data`, and the notes.
    """
    made: dict[str, Any] = without_credentials(
        encodable(
            {
                "motserve": {"version": __version__, **describe_checkout(Path(__file__).parents[1])},
                "date": clock().isoformat(timespec="seconds"),
                "command": [Path(sys.argv[0]).name, *(_masked(word, config) for word in sys.argv[1:])],
                "machine": describe_machine(),
                "libraries": {
                    name: found for name in (*LIBRARIES, *libraries) if (found := _version(name)) is not None
                },
                "config": config.model_dump(mode="json", include=None if sections is None else set(sections)),
                "weights": weights or {},
                "data": data or {},
                **(notes or {}),
            }
        )
    )
    return made


def _masked(word: str, config: Config) -> str:
    token = config.serving.admin_token
    return word if token is None else word.replace(token.get_secret_value(), str(token))


def write_stamp(result: Path, provenance: Mapping[str, Any]) -> None:
    """Write a stamp beside a result whose format has no room for it: `tracks.provenance.json` beside `tracks.txt`.

    Args:
        result: The file, already written; the stamp says its checksum.
        provenance: The stamp.
    """
    write_json(result.with_suffix(_STAMP_SUFFIX), {**provenance, "result": _identify(result)})


def stamp_of(result: Path) -> dict[str, Any] | None:
    """Return the stamp in or beside a result; None where there is none that can be read, or another file's."""
    inside = result.suffix == ".json"
    try:
        document = orjson.loads((result if inside else result.with_suffix(_STAMP_SUFFIX)).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or (not inside and document.get("result") != _identify(result)):
        return None
    found = document.get("provenance") if inside else document
    return found if isinstance(found, dict) else None


def _identify(result: Path) -> dict[str, str]:
    return {"file": readable(result.name), "sha256": checksum(result)}


def describe_files(paths: Iterable[Path], root: Path | None = None) -> dict[str, Any]:
    """Return number, size and checksum of files or folders.

    Args:
        paths: The files; a folder stands for all files below it.
        root: What the names that go into the checksum are relative to. Without it a single file has its plain
            SHA-256, which `sha256sum` prints too, and several have their names without folders.

    Returns:
        `files`, `bytes` and `sha256`. The checksum of several files is that of the text that `sha256sum` prints for
        them, sorted by name.
    """
    found = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    files = [file for file in dict.fromkeys(found) if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if len(files) == 1 and root is None:
        return {"files": 1, "bytes": size, "sha256": checksum(files[0])}
    names = [Path(os.path.relpath(file, root)).as_posix() if root else file.name for file in files]
    lines = sorted(zip(names, map(checksum, files), strict=True))
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in lines)
    return {"files": len(files), "bytes": size, "sha256": hashlib.sha256(os.fsencode(text)).hexdigest()}


def describe_checkout(package: Path) -> dict[str, Any]:
    """Return the git commit that a package runs from and whether the code differs from it; None for both elsewhere.

    It differs where a file of the checkout was changed, or where one was added to the package.

    Args:
        package: Folder of the package. It must be a tracked folder at the top of a checkout: a copy that was
            installed into a virtual environment inside somebody's checkout is not that checkout's code.
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
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _gpus() -> list[str]:
    """Name the devices if torch is loaded; a result that was made without it was made without a GPU."""
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
