"""Sends all kinds of requests to a service, made by Schemathesis from its OpenAPI document, and checks the answers.

`python -m http_fuzz.fuzz --seconds 600` from `tests/support` starts the service with an empty store. Sequences
of requests follow the links of the document: a posted video is read, searched, deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import psutil
from service_checks import eventually, free_port, write_clip

HERE = Path(__file__).parent
TOKEN = "token-of-the-fuzzer"
PHASES = "examples,coverage,fuzzing,stateful"
_START_S = 300
_STOP_S = 60
_READ_S = 120


@dataclass(frozen=True)
class Outcome:
    """What a run brought out.

    Attributes:
        ok: Whether there were no findings.
        report: What Schemathesis printed.
        answers: Number of answers by method, path and status.
    """

    ok: bool
    report: str
    answers: dict[str, int]


def write_files(folder: Path) -> Path:
    """Write what is posted, two videos and two pictures of a person, and return the folder."""
    files = folder / "files"
    files.mkdir(parents=True)
    for seed in (3, 4):
        clip = write_clip(files / f"clip{seed}.mp4", 1, seed)
    capture = cv2.VideoCapture(str(clip))
    try:
        _, frame = capture.read()
    finally:
        capture.release()
    for name in ("person.jpg", "person.png"):
        cv2.imwrite(str(files / name), frame[:128, :64])
    return files


def send_requests(url: str, folder: Path, seconds: float, seed: int, phases: str = PHASES) -> Outcome:
    """Send requests for some time.

    Args:
        url: Address of the service. Its admin token, if it has one, is `TOKEN`.
        folder: Has the folder of `write_files`; the numbers of answers are written into it.
        seconds: How long it takes.
        seed: Makes the requests repeatable.
        phases: What Schemathesis does; it shares the time among them.
    """
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "--no-color"]
    settings = ["--config-file", shutil.copy(HERE / "schemathesis.toml", folder)]
    (folder / "urls.txt").write_text(f'"{(folder / "files" / "clip3.mp4").as_uri()}"\n')
    limits = [f"--max-time={seconds:.0f}", f"--seed={seed}", f"--phases={phases}"]
    options = ["run", f"{url}/openapi.json", "--checks=all", *limits]
    answers = folder / "answers.json"
    environment = {
        **os.environ,
        "MOTSERVE_FUZZ_FILES": str(folder / "files"),
        "MOTSERVE_FUZZ_ANSWERS": str(answers),
        "MOTSERVE_FUZZ_HOOKS": str(HERE / "hooks.py"),
        "MOTSERVE_FUZZ_TOKEN": TOKEN,
    }
    done = subprocess.run(
        [*program, *settings, *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return Outcome(
        done.returncode == 0,
        done.stdout + done.stderr,
        json.loads(answers.read_text()) if answers.exists() else {},
    )


@contextmanager
def running_service(folder: Path, files: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run the service with an empty store.

    Args:
        folder: Where the store and the log go.
        files: The only folder whose files it may read.

    Yields:
        The address of the service and its ingress process.
    """
    port = free_port()
    settings = {
        "detector.weights": "bundled",
        "detector.image_size": "320",
        "reid.weights": "bundled",
        "serving.storage_dir": str(folder / "store"),
        "serving.allowed_roots": json.dumps([str(files)]),
        "serving.admin_token": TOKEN,
        "serving.max_upload_bytes": "4000000",
        "serving.max_active_videos": "4",
    }
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    program = [sys.executable, "-c", "from motserve.cli import app; app()", "serve", f"--port={port}", *options]
    url = f"http://127.0.0.1:{port}"
    with (
        (folder / "service.log").open("wb") as log,
        subprocess.Popen(program, stdout=log, stderr=log, cwd=folder) as service,
    ):
        try:
            eventually(lambda: service.poll() is not None or _is_ready(url), "the start of the service", _START_S)
            if service.poll() is not None:
                raise RuntimeError(f"the service ended: {(folder / 'service.log').read_text()[-3000:]}")
            yield url, _ingress_of(service.pid)
        finally:
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                service.kill()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def _ingress_of(service: int) -> psutil.Process:
    for process in psutil.Process(service).children(recursive=True):
        if any("ServeReplica" in word and "Ingress" in word for word in process.cmdline()):
            return process
    raise RuntimeError("the service has no ingress process")


def _resources(process: psutil.Process) -> str:
    return f"{process.memory_info().rss >> 20} MiB, {process.num_fds()} open files"


def fuzz(folder: Path, seconds: float, seed: int) -> bool:
    """Run a service, send requests to it, print what became of them, and return whether there were no findings."""
    files = write_files(folder)
    with running_service(folder, files) as (url, ingress), httpx.Client(base_url=url, timeout=_READ_S) as client:
        for clip in files.glob("*.mp4"):  # people to be found in other videos
            client.post("/v1/videos", params={"wait": True}, files={"file": clip.read_bytes()}).raise_for_status()
        before = _resources(ingress)
        outcome = send_requests(url, folder, seconds, seed)
        while videos := client.get("/v1/videos").json()["videos"]:
            for video in videos:
                client.delete(f"/v1/videos/{video['id']}").raise_for_status()
        after = _resources(ingress)
    print(outcome.report)
    for answer, count in sorted(outcome.answers.items()):
        print(f"{count:8} {answer}")
    print(f"{sum(outcome.answers.values())} requests; the ingress had {before} before and {after} after them")
    return outcome.ok


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="motserve-fuzz-api-") as folder:
        if not fuzz(Path(folder), args.seconds, args.seed):
            sys.exit(1)


if __name__ == "__main__":
    main()
