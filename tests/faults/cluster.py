"""The service on a Ray cluster of a head and two workers, each on a host of its own, with what restarts them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import httpx
import yaml

from faults.hosts import Host
from faults.processes import processes

ROOT = Path(__file__).parents[2]
PORT = 8000
GCS_PORT = 6379
COMPONENTS = ("detector", "embedder", "ingress", "metrics", "controller", "proxy")
SETTINGS: dict[str, Any] = {
    "detector": {"weights": "bundled", "image_size": 320},
    "reid": {"weights": "bundled", "refresh_interval_s": 0.2},
}
POLL_S = 0.2
RAY_SETTINGS = {  # see docs/faults.md
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_kill_worker_timeout_milliseconds": "1000",
}


class Cluster:
    """A head without CPUs for replicas, two workers, and the service of `serve_config.yaml` on them.

    A thread restarts Ray on a host where it has ended, as systemd and Kubernetes do, and deploys the service to a head
    that is new.

    Args:
        folder: Folder of logs.
        storage: `serving.storage_dir`.
        videos: Folder of videos that may be posted by URL.
    """

    def __init__(self, folder: Path, storage: Path, videos: Path) -> None:
        self.folder, self.storage = folder, storage
        names = ("head", "one", "two")
        self.hosts = [Host(number, f"motserve-{name}", folder / name) for number, name in enumerate(names, 1)]
        self.head, *self.workers = self.hosts
        self._ray: dict[str, subprocess.Popen[bytes]] = {}
        self._ended = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._logs: list[IO[bytes]] = []
        self._config = folder / "serve_config.yaml"
        self._config.write_text(yaml.safe_dump(self._serve_config(videos)))

    def begin(self) -> None:
        """Start everything, and wait until the service is ready."""
        self._supervisor.start()
        self.wait_until_ready()

    def end(self) -> None:
        """Restart nothing any more."""
        self._ended.set()
        self._supervisor.join(180)
        for log in self._logs:
            log.close()

    def wait_until_ready(self, seconds: float = 300) -> None:
        """Wait until every host is part of the cluster, every part of the service runs, and the head answers.

        Ray Serve listens on the head and on hosts with replicas, so a worker may have none.

        Raises:
            TimeoutError: It takes longer.
        """
        end = time.monotonic() + seconds
        lacking = "everything"
        while lacking:
            if time.monotonic() > end:
                raise TimeoutError(f"the service was not ready after {seconds} s: {lacking}; logs are in {self.folder}")
            time.sleep(POLL_S)
            running = list(processes(*COMPONENTS).values())
            absent = [kind for kind in COMPONENTS if kind not in running]
            alone = [host.name for host in self.hosts if not processes("raylet", host=host.name)]
            mute = [] if self.answers(self.head) else ["an answer"]
            lacking = ", ".join([*absent, *alone, *mute])

    def answers(self, host: Host, path: str = "/readyz", seconds: float = 2) -> bool:
        """Return whether the service answers on a host."""
        with suppress(httpx.HTTPError):
            return httpx.get(self.url(host) + path, timeout=seconds).status_code == 200
        return False

    def url(self, host: Host) -> str:
        """Return the address of the service on a host."""
        return f"http://{host.address}:{PORT}"

    def ask(self, method: str, path: str, seconds: float = 120, **options: Any) -> httpx.Response:
        """Send a request, to one host after the other as a load balancer does, until one answers without error.

        Raises:
            TimeoutError: None does.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for host in self.hosts:
                with suppress(httpx.HTTPError):
                    answer = httpx.request(method, self.url(host) + path, timeout=10, **options)
                    if answer.status_code < 500 and answer.status_code not in (408, 429) and not _is_of_proxy(answer):
                        return answer
            time.sleep(POLL_S)
        raise TimeoutError(f"{method} {path} was not answered for {seconds} s")

    def _supervise(self) -> None:
        new = True
        while not self._ended.wait(1):
            for host in self.hosts:
                process = self._ray.get(host.name)
                if process is not None and process.poll() is None:
                    continue
                if host is self.head:
                    self._start_ray(host, "--head", f"--port={GCS_PORT}", "--num-cpus=0", "--dashboard-port=8265")
                    new = True
                else:
                    self._start_ray(host, f"--address={self.head.address}:{GCS_PORT}", "--num-cpus=4")
            if new and all(processes("ray agent", host=host.name) for host in self.hosts):
                new = self._run(self.head, "serve", "deploy", str(self._config)).wait(120) != 0

    def _start_ray(self, host: Host, *options: str) -> None:
        shared = (f"--node-ip-address={host.address}", "--disable-usage-stats", "--block")
        self._ray[host.name] = self._run(host, "ray", "start", *options, *shared)

    def _run(self, host: Host, program: str, *words: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{host.name}.log").open("ab")
        self._logs.append(log)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "", **RAY_SETTINGS}
        return host.run([str(Path(sys.executable).with_name(program)), *words], log, env)

    def _serve_config(self, videos: Path) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        config |= {"proxy_location": "EveryNode", "http_options": {"host": "0.0.0.0", "port": PORT}}
        settings = config["applications"][0]["args"]["settings"]
        settings |= SETTINGS
        settings["serving"] |= {"storage_dir": str(self.storage), "allowed_roots": [str(videos)], "accelerator": "cpu"}
        return config


def _is_of_proxy(answer: httpx.Response) -> bool:
    """Tell whether a proxy that has just started says that it does not know the application yet."""
    return answer.status_code == 404 and not answer.headers.get("content-type", "").startswith("application/")
