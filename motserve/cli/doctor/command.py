"""Runs the checks of `motserve doctor` on this machine, and prints what they found."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from motserve import __version__
from motserve.cli.doctor import machine, probes, software
from motserve.cli.doctor.finding import Finding, run_checks
from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.cli.output.terminal import WholeConsole
from motserve.serving.addresses import LARGEST_PORT, require_free_port

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.config.base import Role

_HOST, _PORT = "127.0.0.1", 8000
_REACH_S: Final = 3.0
_LIMIT_S: Final = probes.LIMIT_S + 10  # every check has a limit of its own, except for file systems that hang
_SHM: Final = Path("/dev/shm")
_COLOURS: Final = {"ok": "green", "limited": "yellow", "broken": "red"}

console = WholeConsole()


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not try to reach the hosts of weights.")] = False,
    port: Annotated[int, typer.Option(min=1, max=LARGEST_PORT, help="Port of the service to check.")] = _PORT,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Say what works on this machine, and how to mend the rest.

    The exit code is 1 only if no video can be tracked.
    """
    findings = run_checks(_checks(read_config(config, overrides), offline, port), _LIMIT_S)
    works = not any(finding.required and finding.state == "broken" for finding in findings)
    if as_json:
        document = {"motserve": __version__, "tracking_works": works, "checks": [asdict(one) for one in findings]}
        print(json.dumps(document, indent=2))
    else:
        console.print(_table(findings))
        console.print(_summary(findings, works), highlight=False)
    if not works:
        raise typer.Exit(1)


def _checks(settings: Config, offline: bool, port: int) -> dict[str, Callable[[], Finding]]:
    """Return all checks with what they need of this machine."""
    room = settings.disk.min_free_bytes
    checks: dict[str, Callable[[], Finding]] = {
        "Python": partial(software.check_python, tuple(sys.version_info[:3])),
        "packages": partial(
            software.check_packages, "packages", software.PACKAGES, _version, True, "pip install --upgrade motserve"
        ),
        "service": partial(_extra, "service", software.SERVICE_PACKAGES, "serve"),
        "training": partial(_extra, "training", software.TRAINING_PACKAGES, "train"),
        "PyTorch, GPU": partial(software.check_torch, probes.ask, shutil.which("nvidia-smi") is not None),
        "ONNX Runtime": partial(software.check_onnxruntime, probes.ask),
        "OpenVINO": partial(
            software.check_openvino,
            probes.ask,
            {"detector": settings.detector.backend, "reid": settings.reid.backend},
        ),
        "backends": partial(software.check_backends, lambda name: util.find_spec(name) is not None),
        "codecs": partial(software.check_codecs, probes.ask),
        "weights of detector": partial(_weights, "detector", settings),
        "weights of reid": partial(_weights, "reid", settings),
        "bundled weights": _bundled,
        "results": partial(machine.check_folder, "results", Path("runs"), room, "--output"),
        "cache": partial(machine.check_folder, "cache", settings.cache_dir, room, "--set cache_dir=…"),
        "storage": partial(
            machine.check_folder, "storage", settings.serving.storage_dir, room, "motserve serve --storage …"
        ),
        "port": partial(machine.check_port, port, partial(require_free_port, _HOST, port)),
        "network": partial(machine.check_network, machine.HOSTS, _reach),
        "shared memory": lambda: machine.check_shared_memory(shutil.disk_usage(_SHM).total if _SHM.is_dir() else None),
        "open files": lambda: machine.check_open_files(_open_files()),
    }
    if offline:
        del checks["network"]
    return checks


def _extra(name: str, packages: Sequence[str], extra: str) -> Finding:
    return software.check_packages(name, packages, _version, False, f"pip install 'motserve[{extra}]'")


def _weights(role: Role, settings: Config) -> Finding:
    from motserve.models.downloads import detector_download, embedder_download
    from motserve.models.weights import find_weights

    download = detector_download if role == "detector" else embedder_download
    return machine.check_weights(role, find_weights(role, settings), lambda name: download(name) is not None)


def _bundled() -> Finding:
    from importlib import resources

    from motserve.models.bundled import CHECKSUMS
    from motserve.models.checksums import checksum

    return machine.check_bundled(CHECKSUMS, Path(str(resources.files("motserve.models.bundled"))), checksum)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _reach(host: str) -> str:
    import httpx

    try:
        httpx.head(f"https://{host}", timeout=_REACH_S)  # any status is an answer
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # a wrong proxy is a ValueError
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _open_files() -> int:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return -1 if hard == resource.RLIM_INFINITY else hard


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("", "check", "found", "how to mend it", title=_title(), title_justify="left")
    for finding in findings:
        colour = _COLOURS[finding.state]
        table.add_row(f"[{colour}]{finding.state}[/]", escape(finding.name), escape(finding.text), escape(finding.mend))
    return table


def _title() -> str:
    return f"motserve {__version__} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"


def _summary(findings: Sequence[Finding], works: bool) -> str:
    if not works:
        return "[red]no video can be tracked on this machine[/]; mend the lines marked as broken"
    others = sum(finding.state != "ok" for finding in findings)
    return "tracking works" + (f"; {others} other lines are limited or broken" if others else ", and so does the rest")
