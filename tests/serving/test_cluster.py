"""The service on a cluster of several nodes on one machine: it scales, nodes are lost, and no frame is missing.

The networks are fakes that replay the recorded answers of the bundled ones, and take a fixed time for each.
The oracle is the result of one process without Ray for the same videos, byte by byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import recorded_models
import service_checks
from ray import cloudpickle, serve
from ray._private import state
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2
from service_checks import free_port, session_of, write_clip

from motserve.config import Config, load_config
from motserve.pipeline.loop import track_frames
from motserve.pipeline.observer import PipelineStats
from motserve.results import encode_frame
from motserve.serving import app
from motserve.serving.stores import Job, JobStore
from motserve.video import open_video

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHUNK = 8
WINDOW = 2
FRAMES = 100
CALM = {"upscale_delay_s": 0.5, "downscale_delay_s": 3, "metrics_interval_s": 0.5, "look_back_period_s": 2}
SETTINGS: dict[str, Any] = {
    "detector": {"weights": "bundled", "image_size": 320},
    "reid": {"weights": "bundled", "refresh_interval_s": 0.2},
    "pipeline": {"first_chunk_size": CHUNK, "chunk_size": CHUNK, "window": WINDOW},
    "serving": {
        "accelerator": "cpu",
        "detector": {"cpus": 0.5, "autoscaling": {"max_replicas": 3, "target_ongoing_requests": 3, **CALM}},
        "embedder": {"cpus": 0.5},
        "session": {"cpus": 0.5, "checkpoint_s": 1, "lease_s": 6, "watch_s": 0.5},
    },
}

eventually = partial(service_checks.eventually, seconds=300)


class Service:
    """A cluster with the service, and the requests of the tests."""

    def __init__(self, config: Config, clips: list[Path], expected: list[bytes]) -> None:
        self.config, self.clips, self.expected = config, clips, expected
        self.storage = config.serving.storage_dir
        self.jobs = JobStore(self.storage)

    def begin(self) -> None:
        port = free_port()
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "dashboard_port": 0}
        )
        for _ in range(2):
            self.cluster.add_node(num_cpus=4)
        ray.init(address=self.cluster.address, log_to_driver=False)
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        serve.run(app.compose(self.config), name="motserve", route_prefix="/")
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=180)

    def end(self) -> None:
        """Kill the cluster at once."""
        ray.shutdown()
        self.cluster.shutdown()

    def post(self, clip: int) -> str:
        answer = self.client.post("/v1/videos", json={"url": self.clips[clip].as_uri()})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, video_id: str) -> Job:
        return self.jobs.get(video_id)

    def finish(self, *videos: tuple[str, int]) -> None:
        """Wait for videos and compare them with the results of one process."""
        for video_id, clip in videos:
            eventually(lambda: self.job(video_id).status in ("done", "failed"), f"the end of {video_id}")  # noqa: B023
            assert self.job(video_id).error is None
            tracks = self.client.get(f"/v1/videos/{video_id}/tracks", params={"format": "ndjson"})
            assert tracks.content == self.expected[clip]

    def replicas(self, deployment: str) -> int:
        states: dict[Any, int] = serve.status().applications["motserve"].deployments[deployment].replica_states
        return states.get("RUNNING", 0)

    def chunks(self) -> int:
        path = recorded_models.chunks_in(self.storage)
        return path.stat().st_size if path.exists() else 0

    def node_of(self, video_id: str) -> str:
        actor: Any = session_of(self.job(video_id))
        found: dict[str, Any] = state.actors(actor._actor_id.hex())
        return str(found["Address"]["NodeID"])

    def workers(self, count: int) -> None:
        """Add nodes until there are this many besides the head."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        there = [node for node in self.cluster.worker_nodes if node.node_id in alive]
        for _ in range(count - len(there)):
            self.cluster.add_node(num_cpus=4)

    def actors_on(self, node_id: str) -> list[str]:
        """Return the names of the actors on a node."""
        actors: dict[str, Any] = state.actors()
        return [
            actor["Name"]
            for actor in actors.values()
            if actor["State"] == "ALIVE" and actor["Address"]["NodeID"] == node_id
        ]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("cluster")
    storage = folder / "data"
    storage.mkdir()
    clips = [write_clip(folder / f"clip{seed}.mp4", 4, seed) for seed in (3, 4)]
    config = load_config([SETTINGS, {"serving": {"storage_dir": str(storage), "allowed_roots": [str(folder)]}}])
    expected = tracked_alone(clips, config, storage)
    patched = pytest.MonkeyPatch()
    patched.setattr(app, "ModelReplica", recorded_models.RecordedModel)
    cloudpickle.register_pickle_by_value(recorded_models)
    service = Service(config, clips, expected)
    try:
        service.begin()
        yield service
        serve.shutdown()
    finally:
        service.end()
        cloudpickle.unregister_pickle_by_value(recorded_models)
        patched.undo()


def tracked_alone(clips: list[Path], config: Config, storage: Path) -> list[bytes]:
    """Return the result lines of each clip from one process, and record the answers of the networks."""
    models = recorded_models.Recorder(config)

    async def track(path: Path) -> bytes:
        lines = []
        with open_video(path, config.video) as source:
            size, rate = (source.info.width, source.info.height), source.info.rate_hz
            chunks = track_frames(source.frames(), models.detect, models.embed, config, PipelineStats(), rate, size)
            async with aclosing(chunks):
                async for chunk in chunks:
                    lines += [encode_frame(frame, models.class_names) for frame in chunk]
        assert len(lines) == FRAMES
        return b"".join(lines)

    results = [asyncio.run(track(path)) for path in clips]
    models.save(storage / "recorded")
    return results


def drain(node_id: str, seconds: int) -> None:
    """Drain a node, as the autoscaler and `ray drain-node` do."""
    worker: Any = ray._private.worker.global_worker
    messages: Any = autoscaler_pb2
    accepted, why = worker.gcs_client.drain_node(
        node_id,
        messages.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
        "a test drains it",
        int((time.time() + seconds) * 1000),
    )
    assert accepted, why


def is_alive(node_id: str) -> bool:
    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())


def running(service: Service, videos: list[tuple[str, int]], frames: int) -> str:
    """Wait until all videos have so many frames; return the one with the fewest."""
    for video_id, _ in videos:
        eventually(lambda: service.job(video_id).frames_done >= frames, f"frame {frames} of {video_id}")  # noqa: B023
    return min((video_id for video_id, _ in videos), key=lambda video_id: service.job(video_id).frames_done)


def test_replicas_are_added_under_load_and_removed_after_it(service: Service) -> None:
    videos = [(service.post(clip), clip) for clip in (0, 1, 0, 1)]
    eventually(lambda: service.replicas("Detector") >= 2, "a second detector")
    service.finish(*videos)
    eventually(lambda: service.replicas("Detector") == 1, "one detector again")
    assert {service.job(video_id).attempt for video_id, _ in videos} == {0}


def test_sessions_on_a_drained_node_move_and_no_frame_is_lost(service: Service) -> None:
    service.workers(2)
    before = service.chunks()
    videos = [(service.post(clip), clip) for clip in (0, 1, 0)]
    moving = running(service, videos, 4 * CHUNK)
    node = service.node_of(moving)
    drain(node, 120)
    service.finish(*videos)
    assert service.job(moving).attempt == 1
    assert {service.job(video_id).restarts for video_id, _ in videos} == {0}, "a session was lost and did not move"
    moves = sum(service.job(video_id).attempt for video_id, _ in videos)
    # a session that moves repeats only the requests in flight; a restart at the first frame would repeat all
    chunks = len(videos) * -(-FRAMES // CHUNK)
    assert chunks <= service.chunks() - before <= chunks + moves * (WINDOW + 1)
    eventually(lambda: not service.actors_on(node), "the end of everything on the drained node")
    eventually(lambda: not is_alive(node), "the end of the drained node, once nothing is on it")
    assert service.replicas("Ingress") == service.replicas("Embedder") == 1


def test_a_node_that_fails_loses_no_video(service: Service) -> None:
    service.workers(2)
    videos = [(service.post(clip), clip) for clip in (1, 0, 1)]
    lost = running(service, videos, 3 * CHUNK)
    node_id = service.node_of(lost)
    (node,) = [node for node in service.cluster.worker_nodes if node.node_id == node_id]
    service.cluster.remove_node(node, allow_graceful=False)
    service.workers(2)
    service.finish(*videos)
    assert (service.job(lost).attempt, service.job(lost).restarts) == (1, 1)


def test_a_killed_session_is_resumed_from_its_last_checkpoint(service: Service) -> None:
    service.workers(1)
    before = service.chunks()
    video_id = service.post(0)
    running(service, [(video_id, 0)], 6 * CHUNK)
    ray.kill(session_of(service.job(video_id)))
    service.finish((video_id, 0))
    assert (service.job(video_id).attempt, service.job(video_id).restarts) == (1, 1)
    # at most the chunks since the last checkpoint, a second before, and those in flight
    again = service.chunks() - before - -(-FRAMES // CHUNK)
    assert 0 <= again < 6


def test_the_next_cluster_resumes_the_videos_of_the_previous_one(service: Service) -> None:
    """As after an upgrade or the loss of the head: the new cluster has only the storage folder of the old one."""
    before = service.chunks()
    videos = [(service.post(clip), clip) for clip in (0, 1)]
    running(service, videos, 5 * CHUNK)
    service.end()
    service.begin()
    service.finish(*videos)
    chunks = len(videos) * -(-FRAMES // CHUNK)
    assert 0 < sum(service.job(video_id).restarts for video_id, _ in videos) <= len(videos)
    assert chunks <= service.chunks() - before < chunks + 5 * len(videos), "they restarted at the first frame"
