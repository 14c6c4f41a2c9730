"""Finds the processes of a running service by their titles, and measures them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

KINDS = {
    "session": r"^ray::SessionActor",
    "detector": r"^ray::ServeReplica:\w+:Detector",
    "embedder": r"^ray::ServeReplica:\w+:Embedder",
    "ingress": r"^ray::ServeReplica:\w+:Ingress",
    "metrics": r"^ray::ServeReplica:\w+:MetricsCollector",
    "controller": r"^ray::ServeController",
    "proxy": r"^ray::ProxyActor|HAProxy",
    "idle worker": r"^ray::IDLE",
    "checker of videos": r"limited_probe",
    "raylet": r"/raylet/raylet ",
    "gcs": r"/gcs/gcs_server ",
    "ray agent": r"dashboard/(agent|dashboard)\.py|runtime_env/agent/main\.py|ray/autoscaler/_private/monitor\.py",
    "command line": r"motserve serve ",
}


@dataclass(frozen=True)
class Sample:
    """One process at one moment; bytes are those that it uses alone, without files and shared memory."""

    memory: int
    files: int
    threads: int


def processes(*kinds: str, host: str = "", root: int = 0) -> dict[int, str]:
    """Return the processes of the service.

    Args:
        kinds: Which kinds; all where none is named.
        host: Only those in this network namespace; all where empty.
        root: Only this process and those below it; all where 0.

    Returns:
        The kind of each process by its process ID.
    """
    patterns = {kind: re.compile(pattern) for kind, pattern in KINDS.items() if not kinds or kind in kinds}
    inside = Path("/run/netns", host).stat().st_ino if host else None
    found = {}
    top = psutil.Process(root) if root else None
    for process in [top, *top.children(recursive=True)] if top else psutil.process_iter():
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:  # it has ended
            continue
        kind = next((kind for kind, pattern in patterns.items() if pattern.search(title)), None)
        if kind and (inside is None or _namespace(process.pid) == inside):
            found[process.pid] = kind
    return found


def session_process(video_id: str) -> int | None:
    """Return the process that tracks a video: the session that holds a file of its folder open."""
    for pid in processes("session"):
        try:
            targets = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if any(f"/{video_id}/" in target for target in targets):
            return pid
    return None


def sample(pid: int) -> Sample | None:
    """Measure a process; None if it has ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return Sample(1024 * int(status["RssAnon"].split()[0]), files, int(status["Threads"]))
    except (OSError, KeyError):
        return None


def _namespace(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None
