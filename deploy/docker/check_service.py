"""Tracks a rendered clip with a running service, reads its metrics and prints a summary as JSON.

python deploy/docker/check_service.py --address 127.0.0.1
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from motserve.config import VideoConfig
from motserve.lab.scenes import SceneConfig, render
from motserve.video import VideoWriter

TIMEOUT_S = 300.0


def check(address: str) -> dict[str, Any]:
    """Post a clip of four seconds to the service at an address, wait for its tracks, and read the metrics endpoint.

    Raises:
        httpx.HTTPError: A request failed.
        TimeoutError: The video was not done in time.
    """
    with tempfile.TemporaryDirectory() as folder, httpx.Client(base_url=f"http://{address}:8000", timeout=30) as client:
        clip = Path(folder) / "clip.mp4"
        scene = SceneConfig(duration_s=4)
        with VideoWriter(clip, scene.width, scene.height, VideoConfig(), scene.rate_hz) as writer:
            for rendered in render(scene):
                writer.write(rendered.frame.image, rendered.frame.timestamp)
        with clip.open("rb") as file:
            links = client.post("/v1/videos", files={"file": file}).raise_for_status().json()["links"]
        began = time.monotonic()
        while True:
            video: dict[str, Any] = client.get(links["self"]).raise_for_status().json()
            if video["status"] in ("done", "failed"):
                break
            if time.monotonic() - began > TIMEOUT_S:
                raise TimeoutError(f"the video is {video['status']} after {TIMEOUT_S:.0f} s")
            time.sleep(0.5)
        rows = client.get(f"{links['tracks']}?format=mot").raise_for_status().text.splitlines()
        metrics = httpx.get(f"http://{address}:8080/metrics", timeout=30).raise_for_status().text.splitlines()
    summary = {key: video[key] for key in ("status", "error", "frames_done", "fps", "identities", "models")}
    names = {line.split()[2] for line in metrics if line.startswith("# TYPE")}
    return {**summary, "rows": len(rows), "metrics": len(names)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1")
    summary = check(parser.parse_args().address)
    print(json.dumps(summary, indent=1))
    sys.exit(0 if summary["status"] == "done" and summary["rows"] and summary["metrics"] else 1)
