"""A backup of the real service while it tracks a video, restored and served from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve
from service_checks import free_port, write_clip

from motserve.serving.app import build
from motserve.serving.arguments import ServeArgs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MAX_WAIT_S = 600.0


def command(*arguments: str | Path) -> str:
    """Run the command line in a process of its own, which shares nothing with the service."""
    done = subprocess.run(
        [sys.executable, "-c", "from motserve.cli import app; app()", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def deploy(storage: Path) -> None:
    settings: dict[str, Any] = {
        "detector": {"weights": "bundled", "image_size": 320},
        "reid": {"weights": "bundled", "refresh_interval_s": 0.2},
        "serving": {"storage_dir": str(storage)},
    }
    serve.run(build(ServeArgs(settings=settings)), name="motserve", route_prefix="/")


def wait_for(client: httpx.Client, video: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + MAX_WAIT_S
    while True:
        state: dict[str, Any] = client.get(f"/v1/videos/{video}").raise_for_status().json()
        if reached(state):
            return state
        assert state["status"] != "failed", state
        assert time.monotonic() < deadline, state
        time.sleep(0.1)


def post(client: httpx.Client, clip: Path) -> str:
    with clip.open("rb") as file:
        video: str = client.post("/v1/videos", files={"file": (clip.name, file)}).raise_for_status().json()["id"]
    return video


def people_in_frames(client: httpx.Client, video: str) -> list[list[str]]:
    """Return frame and identity of each row; their boxes may differ by rounding."""
    rows = client.get(f"/v1/videos/{video}/tracks?format=mot").raise_for_status().text.splitlines()
    return [row.split(",")[:2] for row in rows]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    # on a busy machine the proxy takes longer to start than the five seconds that it is given
    for name in ("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S"):
        monkeypatch.setenv(name, "60")
    port = free_port()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
            yield client
    finally:
        serve.shutdown()
        ray.shutdown()


def test_a_restored_backup_serves_finished_videos_and_resumes_the_active_one(
    tmp_path: Path, client: httpx.Client
) -> None:
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    write_clip(short, 2)
    write_clip(long, 40)
    live, backup, restored = tmp_path / "live", tmp_path / "backup", tmp_path / "restored"

    deploy(live)
    done = post(client, short)
    wait_for(client, done, lambda state: state["status"] == "done")
    tracks = client.get(f"/v1/videos/{done}/tracks?format=mot").raise_for_status().text
    assert tracks
    active = post(client, long)
    wait_for(client, active, lambda state: state["frames_done"] > 0)
    assert "2 videos" in command("store", "backup", backup, "--set", f"serving.storage_dir={live}")
    assert client.get(f"/v1/videos/{active}").json()["status"] == "running", "the clip is too short for this test"
    frames = wait_for(client, active, lambda state: state["status"] == "done")[
        "frames_done"
    ]  # the backup did not disturb it
    people = people_in_frames(client, active)
    serve.delete("motserve")

    assert "2 videos" in command("store", "restore", backup, "--set", f"serving.storage_dir={restored}")
    live.rename(tmp_path / "gone")  # nothing may be read from there
    deploy(restored)
    states = {video["id"]: video for video in client.get("/v1/videos").raise_for_status().json()["videos"]}
    assert states[done]["status"] == "done"
    assert states[active]["status"] in ("queued", "running")
    assert client.get(f"/v1/videos/{done}/tracks?format=mot").raise_for_status().text == tracks
    assert client.get(f"/v1/videos/{done}/annotated.mp4").raise_for_status().content[4:8] == b"ftyp"
    person = {"video_id": done, "identity": int(tracks.split(",")[1])}
    answer = client.post("/v1/identities/search", json=person)
    assert answer.status_code == 200, answer.text
    assert post(client, short)  # it accepts new videos
    resumed = wait_for(client, active, lambda state: state["status"] == "done")
    assert (resumed["resumed"], resumed["frames_done"]) == (1, frames)
    assert people_in_frames(client, active) == people
