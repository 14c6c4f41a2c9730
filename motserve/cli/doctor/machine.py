"""Checks of weights, disks, the network, the service's port, shared memory and limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motserve.cli.doctor.finding import Finding
from motserve.errors import MotserveError
from motserve.files.disk import free_bytes, megabytes

if TYPE_CHECKING:
    from motserve.models.weights import Weights

HOSTS: Final[Mapping[str, str]] = {
    "github.com": "Ultralytics' weights",
    "download.pytorch.org": "torchvision's weights",
    "huggingface.co": "transformers' weights",
}
"""Hosts that weights are downloaded from."""

_LEAST_SHARED: Final = 1 << 30  # bytes; frames of running videos and crops of all sessions are in it
_LEAST_FILES: Final = 4096  # Ray opens some hundred files per process of the service


def check_weights(
    role: str, found: Sequence[tuple[str, Weights | None]], is_published: Callable[[str], bool]
) -> Finding:
    """Check which of the configured weights are on this machine.

    Args:
        role: `detector` or `reid`.
        found: The configured names in order of preference, each with the weights if they are here.
        is_published: Returns whether weights of a name can be downloaded.
    """
    name = f"weights of {role}"
    used = next((configured for configured, weights in found if weights), None)
    names = [configured for configured, _ in found]
    absent = names if used is None else names[: names.index(used)]
    text = "; ".join([f"{used} is used"] * (used is not None) + [f"not here: {', '.join(absent)}"] * bool(absent))
    if any(is_published(configured) for configured in absent):
        return Finding(name, "limited", text, "motserve models pull downloads them, or copy them to the models folder")
    if used is None:
        mend = f"copy them to the models folder, or name others with --set {role}.weights=…"
        return Finding(name, "broken", text, mend, required=True)
    return Finding(name, "ok", text, "only if you trained them: copy them to the models folder" if absent else "")


def check_bundled(checksums: Mapping[str, str], folder: Path, checksum: Callable[[Path], str]) -> Finding:
    """Check that the weights in the package are there and unchanged."""
    wrong = [
        name
        for name, expected in checksums.items()
        if not (folder / name).is_file() or checksum(folder / name) != expected
    ]
    if wrong:
        mend = "install the package again: pip install --force-reinstall --no-deps motserve"
        return Finding("bundled weights", "broken", f"missing or damaged: {', '.join(wrong)}", mend)
    return Finding("bundled weights", "ok", f"{len(checksums)} files, intact")


def check_folder(what: str, folder: Path, least: int, setting: str) -> Finding:
    """Check free space and write access of a folder, which need not exist.

    Args:
        what: What the folder is for.
        folder: The folder.
        least: Required free space in bytes.
        setting: How another folder is chosen.
    """
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Finding(
            what, "broken", f"{folder} cannot be written to", f"change its rights, or choose one with {setting}"
        )
    free = free_bytes(nearest)
    if free < least:
        text = f"{folder}: {megabytes(free)} are free, {megabytes(least)} are required"
        mend = f"change its rights, or choose another folder with {setting}"
        return Finding(what, "broken", f"{folder} cannot be written to", mend)
    free = free_bytes(nearest)
    if free < least:
        text = f"{folder}: {megabytes(free)} are free, {megabytes(least)} are required"
        return Finding(what, "broken", text, f"free disk space, or choose another disk with {setting}")
    return Finding(what, "ok", f"{folder}, {megabytes(free)} free")


def check_port(port: int, require_free: Callable[[], None]) -> Finding:
    """Check that the service can listen on its port."""
    try:
        require_free()
    except MotserveError as error:
        return Finding("port", "limited", str(error), "if it is your own service, that is fine")
    return Finding("port", "ok", f"{port} is free")


def check_network(hosts: Mapping[str, str], reach: Callable[[str], str]) -> Finding:
    """Check which hosts of weights can be reached.

    Args:
        hosts: Hosts, and what each is for.
        reach: Tries a host, and returns why it cannot be reached; empty if it can.
    """
    with ThreadPoolExecutor(len(hosts)) as pool:
        reasons = dict(zip(hosts, pool.map(reach, hosts), strict=True))
    failed = {host: reason for host, reason in reasons.items() if reason}
    if not failed:
        return Finding("network", "ok", f"{', '.join(hosts)} answer")
    text = "; ".join(f"{host} ({hosts[host]}): {reason}" for host, reason in failed.items())
    mend = "the bundled weights work offline; for others, set HTTPS_PROXY, or copy them to the models folder"
    return Finding("network", "limited", f"cannot be reached: {text}", mend)


def check_shared_memory(size: int | None) -> Finding:
    """Check the size of /dev/shm, through which Ray passes frames between processes.

    Args:
        size: Its size in bytes, None if there is none.
    """
    if size is None:
        return Finding("shared memory", "limited", "there is no /dev/shm", "Ray uses /tmp instead, which is slower")
    if size < _LEAST_SHARED:
        text = f"{megabytes(size)} in /dev/shm; the service needs {megabytes(_LEAST_SHARED)}"
        return Finding("shared memory", "limited", text, "docker run --shm-size=2g, or mount a larger /dev/shm")
    return Finding("shared memory", "ok", f"{megabytes(size)} in /dev/shm")


def check_open_files(most: int) -> Finding:
    """Check how many files a process may open.

    Args:
        most: The hard limit, which Ray raises its own limit to; -1 for none.
    """
    if 0 <= most < _LEAST_FILES:
        text = f"a process may open {most}; the service needs {_LEAST_FILES}"
        return Finding("open files", "limited", text, "ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit")
    return Finding("open files", "ok", f"a process may open {most}" if most >= 0 else "no limit")
