"""Shared by tests that start a service: a free port, a clip to post, and polling with a timeout."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import state

from motserve.config import Config, load_config
from motserve.lab.scenes import SceneConfig, render
from motserve.serving.api import Service
from motserve.serving.inference.backends import Backends
from motserve.serving.session.launcher import actor_name
from motserve.serving.stores import Job
from motserve.video import VideoWriter, probe_video


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_clip(path: Path, seconds: float, seed: int = 3) -> Path:
    """Render a clip of five people at 480x272."""
    scene = SceneConfig(seed=seed, width=480, height=272, duration_s=seconds, people=5)
    with VideoWriter(path, scene.width, scene.height, Config().video, scene.rate_hz) as writer:
        for rendered in render(scene):
            writer.write(rendered.frame.image, rendered.frame.timestamp)
    return path


def session_of(job: Job) -> Any:
    """Return the actor of the current attempt of a video; None if there is none."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"] == actor_name(job):
            with suppress(ValueError):  # it has ended in the meantime
                return ray.get_actor(actor["name"], namespace=actor["namespace"])
    return None


def process_of(actor: Any) -> int:
    """Return the process ID of an actor on this machine."""
    found: dict[str, Any] = state.actors(actor._actor_id.hex())
    return int(found["Pid"])


def eventually(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Poll a function until its result is true, and return the result."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s")


class ChecksInThisProcess:
    """Checks videos without processes of their own, which take half a second to start."""

    async def __aenter__(self) -> ChecksInThisProcess:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def check(self, path: Path, name: str) -> None:
        await asyncio.to_thread(probe_video, path, Config().video, name)


def service_without_cluster(storage: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Service:
    """A service with real stores; its sessions are not really started.

    Args:
        storage: Folder of the stores.
        monkeypatch: Undoes it.
        settings: Other sections of the configuration; of `serving` what stands beside `storage_dir`.
    """
    serving = {"storage_dir": str(storage), **settings.pop("serving", {})}
    serving["session"] = {"warm": 0, **serving.get("session", {})}
    no_handle: Any = None
    service = Service(load_config([{"serving": serving, **settings}]), "d", Backends(no_handle, no_handle, no_handle))
    monkeypatch.setattr(service.sessions, "_launch", lambda *_: None)
    monkeypatch.setattr(service.sessions, "find", lambda *_: None)
    monkeypatch.setattr(service, "probes", ChecksInThisProcess())
    return service
