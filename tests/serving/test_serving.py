"""The real Serve application on a local cluster, with the weights that come with the package."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import ray
from http_fuzz.fuzz import send_requests, write_files
from ray import serve
from service_checks import eventually, free_port, process_of, session_of, write_clip

from motserve.config import load_config
from motserve.people.identity_store import IdentityStore
from motserve.pipeline.local_models import LocalModels
from motserve.pipeline.loop import track_frames
from motserve.pipeline.observer import PipelineStats
from motserve.results import encode_frame
from motserve.serving.app import build
from motserve.serving.arguments import ServeArgs
from motserve.serving.session.warm import WARM_PREFIX
from motserve.serving.stores import Job, JobStore
from motserve.video import open_video

pytestmark = pytest.mark.early

MAX_UPLOAD = 4_000_000
WARM = 2
SETTINGS: dict[str, Any] = {
    "detector": {"weights": "bundled", "image_size": 320},
    "reid": {"weights": "bundled", "refresh_interval_s": 0.2},
    "serving": {
        "max_upload_bytes": MAX_UPLOAD,
        "max_active_videos": 3,
        "session": {"checkpoint_s": 0.2, "lease_s": 3, "watch_s": 0.3, "warm": WARM},
        "detector": {"health_check_period_s": 0.5, "health_check_timeout_s": 2},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def clips(folder: Path) -> list[Path]:
    """Two rendered clips of the same size, 3 s each."""
    return [write_clip(folder / f"clip{seed}.mp4", 3, seed) for seed in (3, 4)]


def serving_settings(folder: Path) -> dict[str, Any]:
    return {**SETTINGS["serving"], "storage_dir": str(folder / "data"), "allowed_roots": [str(folder / "allowed")]}


def deploy(settings: dict[str, Any]) -> None:
    serve.run(build(ServeArgs(settings=settings)), name="motserve", route_prefix="/")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[str]:
    """The running service; the value is its URL."""
    port = free_port()
    serving = serving_settings(folder)
    (folder / "allowed").mkdir()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        deploy({**SETTINGS, "serving": serving})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def client(service: str) -> Iterator[httpx.Client]:
    """A client of the service; videos that a test leaves are deleted after it."""
    with httpx.Client(base_url=service, timeout=120) as client:
        yield client
        for video in client.get("/v1/videos", params={"limit": 100}).json()["videos"]:
            client.delete(f"/v1/videos/{video['id']}")


@pytest.fixture
def reader(service: str) -> Iterator[httpx.Client]:
    """A client that deletes nothing."""
    with httpx.Client(base_url=service, timeout=120) as client:
        yield client


def post(client: httpx.Client, path: Path, **params: Any) -> httpx.Response:
    return client.post("/v1/videos", files={"file": (path.name, path.read_bytes())}, params=params)


def finished(client: httpx.Client, video_id: str) -> dict[str, Any]:
    def state() -> Any:
        answer = client.get(f"/v1/videos/{video_id}").json()
        return answer if answer["status"] in ("done", "failed") else None

    video: dict[str, Any] = eventually(state, f"the end of video {video_id}")
    return video


def track(client: httpx.Client, path: Path) -> list[dict[str, Any]]:
    """Post a video, wait for it, return its frames."""
    video_id = post(client, path).json()["id"]
    assert finished(client, video_id)["status"] == "done"
    frames: list[dict[str, Any]] = client.get(f"/v1/videos/{video_id}/tracks").json()["frames"]
    return frames


def assert_same(served: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Same rows; numbers may differ by the last digit written, since batches of another size round otherwise."""
    assert len(served) == len(expected)
    for a, b in zip(served, expected, strict=True):
        assert (a["frame"], a["timestamp"]) == (b["frame"], b["timestamp"])
        assert [(t["id"], t["track"], t["class"]) for t in a["tracks"]] == [
            (t["id"], t["track"], t["class"]) for t in b["tracks"]
        ]
        for x, y in zip(a["tracks"], b["tracks"], strict=True):
            np.testing.assert_allclose(x["box"], y["box"], atol=0.011)
            assert x["confidence"] == pytest.approx(y["confidence"], abs=1.1e-4)
            assert x.get("reidentified_from") == pytest.approx(y.get("reidentified_from"), abs=2e-3)


def stored(folder: Path) -> list[Path]:
    videos = folder / "data" / "videos"
    return list(videos.iterdir()) if videos.exists() else []


def tracked_locally(paths: list[Path], settings: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the frames of each clip as the same process tracks them without Ray."""
    config = load_config([settings])
    models = LocalModels(config)

    async def run(path: Path) -> list[dict[str, Any]]:
        frames = []
        with open_video(path, config.video) as source:
            info = source.info
            chunks = track_frames(
                source.frames(),
                models.detect,
                models.embed,
                config,
                PipelineStats(),
                info.rate_hz,
                (info.width, info.height),
            )
            async with aclosing(chunks):
                async for chunk in chunks:
                    frames += [json.loads(encode_frame(frame, models.class_names)) for frame in chunk]
        return frames

    return [asyncio.run(run(path)) for path in paths]


@pytest.fixture(scope="module")
def local(clips: list[Path]) -> list[list[dict[str, Any]]]:
    return tracked_locally(clips, SETTINGS)


@pytest.fixture(scope="class")
def links(service: str, clips: list[Path]) -> Iterator[dict[str, str]]:
    """The links of the video, a copy of the first clip."""
    with httpx.Client(base_url=service, timeout=120) as client:
        answer = post(client, clips[0])
        assert answer.status_code == 202
        links: dict[str, str] = answer.json()["links"]
        assert answer.headers["location"] == links["self"]
        assert client.get(links["annotated"]).status_code in (200, 409)  # tracked already, or not yet
        assert finished(client, answer.json()["id"])["status"] == "done"
        yield links
        client.delete(links["self"])


class TestTrackedVideo:
    """What the service tells of one video that it has tracked."""

    def test_served_tracks_equal_local_tracks(
        self, reader: httpx.Client, links: dict[str, str], local: list[list[dict[str, Any]]]
    ) -> None:
        assert any(frame["tracks"] for frame in local[0]), "no person was tracked, so nothing is compared"
        assert_same(reader.get(links["tracks"]).json()["frames"], local[0])

    def test_state_names_models_progress_and_errors(self, reader: httpx.Client, links: dict[str, str]) -> None:
        state = reader.get(links["self"]).json()
        assert state["frames_done"] == state["frames_total"] == 75
        assert state["progress"] == 1
        assert state["fps"] > 0
        assert state["error"] is None
        assert (state["video"]["width"], state["video"]["height"]) == (480, 272)
        for role in ("detector", "reid"):
            assert state["models"][role]["name"] == "bundled"
            assert len(state["models"][role]["sha256"]) == 64
        assert reader.get(links["tracks"]).json()["models"] == state["models"]

    def test_formats_agree(self, reader: httpx.Client, links: dict[str, str]) -> None:
        fetched = {f: reader.get(links["tracks"], params={"format": f}) for f in ("json", "ndjson", "mot", "csv")}
        frames = fetched["json"].json()["frames"]
        rows = sum(len(frame["tracks"]) for frame in frames)
        assert rows > 0
        assert [json.loads(line) for line in fetched["ndjson"].text.splitlines()] == frames
        assert len(fetched["mot"].text.splitlines()) == rows
        assert len(fetched["csv"].text.splitlines()) == rows + 1
        assert fetched["csv"].headers["content-type"].startswith("text/csv")

    def test_readers_of_its_annotated_video_get_the_same(self, reader: httpx.Client, links: dict[str, str]) -> None:
        sizes: list[int] = []
        threads = [
            threading.Thread(target=lambda: sizes.append(len(reader.get(links["annotated"]).content))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(sizes) == 3
        assert len(set(sizes)) == 1

    def test_its_annotated_video_plays_and_has_ranges(
        self, reader: httpx.Client, links: dict[str, str], folder: Path
    ) -> None:
        answer = reader.get(links["annotated"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
        path = folder / "annotated.mp4"
        path.write_bytes(answer.content)
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert sum(1 for _ in container.decode(video=0)) == 75
        part = reader.get(links["annotated"], headers={"Range": "bytes=0-99"})
        assert (part.status_code, len(part.content)) == (206, 100)


def warm_sessions() -> dict[str, Any]:
    """Return the actors of sessions that were started before their videos came, by name; some may have a video."""
    names = (one["name"] for one in ray.util.list_named_actors(all_namespaces=True))
    actors: dict[str, Any] = {}
    for name in names:
        if name.startswith(WARM_PREFIX):
            with suppress(ValueError):  # it has ended in the meantime
                actors[name] = ray.get_actor(name, namespace="motserve")
    return actors


def prepared_sessions() -> dict[str, Any]:
    """Wait until as many session processes as configured are ready for a video; return their actors by name."""
    actors: dict[str, Any] = eventually(
        lambda: len(warm_sessions()) == WARM and warm_sessions(), "the start of the session processes"
    )
    ray.get([actor.prepare.remote() for actor in actors.values()])
    return actors


def test_two_videos_at_once_equal_each_alone_and_share_batches(
    client: httpx.Client, clips: list[Path], local: list[list[dict[str, Any]]]
) -> None:
    prepared_sessions()  # otherwise the first one may be done when the other one begins
    ids = [post(client, path).json()["id"] for path in clips]
    states = [finished(client, video_id) for video_id in ids]
    assert [state["status"] for state in states] == ["done", "done"]
    for video_id, expected in zip(ids, local, strict=True):
        assert_same(client.get(f"/v1/videos/{video_id}/tracks").json()["frames"], expected)
    # a session sends chunks of 8, so a batch of more than 8 is made of two videos
    eventually(lambda: batches_above(8) > 0, "a batch shared by two videos")


def batches_above(size: int) -> float:
    """Read the detector's histogram as Prometheus would."""
    address = ray.nodes()[0]
    text = httpx.get(f"http://{address['NodeManagerAddress']}:{address['MetricsExportPort']}/metrics").text
    counts: dict[str, float] = {}
    for labels, count in re.findall(r"motserve_model_batch_size_bucket{(.*?)} ([\d.e+]+)", text):
        if 'role="detector"' not in labels:
            continue
        (bound,) = re.findall(r'\ble="([^"]+)"', labels)
        counts[bound] = counts.get(bound, 0) + float(count)
    return counts.get("+Inf", 0) - counts.get(f"{size}.0", 0) if counts else 0


def test_wait_streams_a_line_for_each_frame(
    client: httpx.Client, clips: list[Path], local: list[list[dict[str, Any]]]
) -> None:
    with (
        clips[0].open("rb") as file,
        client.stream("POST", "/v1/videos", files={"file": file}, params={"wait": True}) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert_same([json.loads(line) for line in answer.iter_lines()], local[0])
        assert client.get(answer.headers["location"]).json()["status"] == "done"


def test_a_client_that_disconnects_does_not_stop_the_video(client: httpx.Client, clips: list[Path]) -> None:
    with client.stream("POST", "/v1/videos", files={"file": clips[0].read_bytes()}, params={"wait": True}) as answer:
        links = answer.headers["location"]
    state = finished(client, links.rpartition("/")[2])
    assert (state["status"], state["frames_done"]) == ("done", 75)


def test_url_below_an_allowed_root(
    client: httpx.Client, clips: list[Path], folder: Path, local: list[list[dict[str, Any]]]
) -> None:
    allowed = folder / "allowed" / "a clip.mp4"
    allowed.write_bytes(clips[0].read_bytes())
    answer = client.post("/v1/videos", json={"url": allowed.as_uri()})
    assert answer.status_code == 202
    assert finished(client, answer.json()["id"])["status"] == "done"
    assert_same(client.get(answer.json()["links"]["tracks"]).json()["frames"], local[0])
    client.delete(answer.json()["links"]["self"])
    assert allowed.exists(), "the video belongs to the user who put it there"


def test_urls_that_are_refused(client: httpx.Client, clips: list[Path], folder: Path) -> None:
    escape = folder / "allowed" / "link.mp4"
    escape.symlink_to(clips[0])
    cases = {
        clips[0].as_uri(): 403,
        f"{(folder / 'allowed').as_uri()}/../{clips[0].name}": 403,
        escape.as_uri(): 403,
        (folder / "allowed" / "missing.mp4").as_uri(): 404,
        "http://127.0.0.1/clip.mp4": 400,
        "rtsp://127.0.0.1/stream": 400,
    }
    for url, status in cases.items():
        answer = client.post("/v1/videos", json={"url": url})
        assert (url, answer.status_code) == (url, status)
    assert stored(folder) == []


def bad_videos(folder: Path, clip: Path) -> dict[str, tuple[bytes, int]]:
    data = clip.read_bytes()
    silent = folder / "audio.mp4"
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    empty = folder / "no_frames.mp4"
    with av.open(str(empty), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height = 64, 64
        container.start_encoding()
    return {
        "text": (b"not a video at all\n" * 100, 422),
        "noise": (np.random.default_rng(0).bytes(50_000), 422),
        "truncated index": (data[:200], 422),
        "truncated data": (data[: int(len(data) * 0.7)], 422),
        "audio only": (silent.read_bytes(), 422),
        "zero frames": (empty.read_bytes(), 422),
        "empty": (b"", 400),
        "too large": (bytes(MAX_UPLOAD + 100_000), 413),
    }


def test_bad_videos_get_a_problem_and_leave_nothing(client: httpx.Client, clips: list[Path], folder: Path) -> None:
    for name, (data, status) in bad_videos(folder, clips[0]).items():
        answer = client.post("/v1/videos", files={"file": (f"{name}.mp4", data)})
        assert (name, answer.status_code) == (name, status)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert problem["type"].startswith("urn:motserve:problem:")
        assert problem["detail"]
    assert stored(folder) == []
    assert client.get("/v1/videos").json()["videos"] == []


def test_too_large_without_a_length_is_cut_off(client: httpx.Client, folder: Path) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(100):
            sent += 1_000_000
            yield bytes(1_000_000)

    answer = client.post("/v1/videos", content=body(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413
    assert stored(folder) == []


def test_malformed_requests(client: httpx.Client) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    cases: list[tuple[httpx.Response, int]] = [
        (client.post("/v1/videos"), 415),
        (client.post("/v1/videos", content=b"x", headers={"content-type": "text/plain"}), 415),
        (client.post("/v1/videos", content=b"", headers=form), 400),
        (client.post("/v1/videos", content=b"garbage", headers=form), 400),
        (client.post("/v1/videos", content=b"", headers={"content-type": "multipart/form-data"}), 400),
        (client.post("/v1/videos", files={}, data={"a": "b"}, headers={}), 415),
        (client.post("/v1/videos", content=b"{", headers={"content-type": "application/json"}), 400),
        (client.post("/v1/videos", json={"uri": "file:///a"}), 400),
        (client.get("/v1/videos/unknown"), 404),
        (client.get("/v1/videos/unknown/tracks"), 404),
        (client.get("/v1/videos/unknown/annotated.mp4"), 404),
        (client.delete("/v1/videos/unknown"), 404),
        (client.get("/v1/videos/unknown/tracks", params={"format": "xml"}), 422),
        (client.get("/v1/videos", params={"limit": 0}), 422),
        (client.get("/v1/videos", params={"after": "unknown"}), 404),
        (client.get("/nowhere"), 404),
        (client.put("/v1/videos"), 405),
    ]
    for answer, status in cases:
        assert (str(answer.request.url), answer.status_code) == (str(answer.request.url), status)
        assert answer.json()["status"] == status


def test_delete_stops_the_session_and_removes_the_files(client: httpx.Client, clips: list[Path], folder: Path) -> None:
    video_id = post(client, clips[0]).json()["id"]
    job = job_of(video_id, folder)
    assert client.delete(f"/v1/videos/{video_id}").status_code == 204
    assert client.get(f"/v1/videos/{video_id}").status_code == 404
    eventually(lambda: session_of(job) is None, "the end of the session")
    assert stored(folder) == []


def test_the_session_ends_when_the_video_is_done(client: httpx.Client, clips: list[Path], folder: Path) -> None:
    video_id = post(client, clips[0]).json()["id"]
    finished(client, video_id)
    eventually(lambda: session_of(job_of(video_id, folder)) is None, "the end of the session")


def test_a_video_gets_a_process_that_waits_and_another_one_is_started(
    client: httpx.Client, clips: list[Path], folder: Path, local: list[list[dict[str, Any]]]
) -> None:
    pids = {name: process_of(actor) for name, actor in prepared_sessions().items()}
    video_id = post(client, clips[0]).json()["id"]
    job = job_of(video_id, folder)
    assert process_of(session_of(job)) == pids[job.actor]
    eventually(lambda: warm_sessions().keys() - pids.keys(), "the start of another process")
    assert finished(client, video_id)["status"] == "done"
    assert_same(client.get(f"/v1/videos/{video_id}/tracks").json()["frames"], local[0])
    eventually(lambda: job.actor not in warm_sessions(), "the end of the process whose video is done")


def test_a_video_whose_process_died_while_it_waited_gets_another_one(
    client: httpx.Client, clips: list[Path], folder: Path
) -> None:
    died = prepared_sessions()
    for actor in died.values():
        os.kill(process_of(actor), signal.SIGKILL)
    eventually(lambda: not died.keys() & warm_sessions().keys(), "the end of the processes")
    video_id = post(client, clips[0]).json()["id"]
    state = finished(client, video_id)
    assert (state["status"], state["frames_done"], state["resumed"]) == ("done", 75, 0)
    assert job_of(video_id, folder).actor not in died


def test_a_lost_session_is_resumed_from_its_checkpoint(
    client: httpx.Client, clips: list[Path], folder: Path, local: list[list[dict[str, Any]]]
) -> None:
    """The reader of the tracks does not notice."""
    with (
        clips[0].open("rb") as file,
        client.stream("POST", "/v1/videos", files={"file": file}, params={"wait": True}) as answer,
    ):
        state_at = answer.headers["location"]
        video_id = state_at.rpartition("/")[2]
        checkpoint = folder / "data" / "videos" / video_id / "checkpoint-0.npz"
        eventually(checkpoint.exists, "a checkpoint")
        ray.kill(session_of(job_of(video_id, folder)))
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert_same(lines, local[0])
    state = client.get(state_at).json()
    assert (state["status"], state["frames_done"], state["resumed"]) == ("done", 75, 1)
    assert_same(client.get(f"{state_at}/tracks").json()["frames"], local[0])
    eventually(
        lambda: sorted(path.name for path in checkpoint.parent.iterdir()) == ["source", "tracks.ndjson"], "order"
    )


def job_of(video_id: str, folder: Path) -> Job:
    """Return the row of a video."""
    return JobStore(folder / "data").get(video_id)


def lose(video_id: str, folder: Path) -> None:
    """Kill the session of a video that has no restarts left."""
    job = job_of(video_id, folder)
    assert JobStore(folder / "data").write(video_id, job.attempt, restarts=100)
    ray.kill(session_of(job))


def test_a_video_whose_sessions_are_lost_too_often_fails(client: httpx.Client, clips: list[Path], folder: Path) -> None:
    video_id = post(client, clips[0]).json()["id"]
    eventually(lambda: client.get(f"/v1/videos/{video_id}").json()["status"] == "running", "the start")
    lose(video_id, folder)
    state = finished(client, video_id)
    assert (state["status"], state["error"]["type"]) == ("failed", "SessionLost")
    answer = client.get(f"/v1/videos/{video_id}/tracks")
    assert answer.status_code == 409


def test_a_full_service_answers_with_retry_after(client: httpx.Client, clips: list[Path], folder: Path) -> None:
    accepted = [post(client, clips[0]) for _ in range(3)]
    assert {answer.status_code for answer in accepted} == {202}
    refused = post(client, clips[1])
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert len(stored(folder)) == 3


def test_list_is_paged_newest_first(client: httpx.Client, clips: list[Path]) -> None:
    ids = [post(client, clips[0]).json()["id"] for _ in range(3)]
    first = client.get("/v1/videos", params={"limit": 2}).json()
    second = client.get("/v1/videos", params={"limit": 2, "after": first["next"]}).json()
    assert [video["id"] for video in first["videos"] + second["videos"]] == ids[::-1]
    assert second["next"] is None


def test_health_and_documentation(client: httpx.Client) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json()["models"]["detector"]["name"] == "bundled"
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/v1/videos",
        "/v1/videos/{video_id}",
        "/v1/videos/{video_id}/tracks",
        "/v1/videos/{video_id}/annotated.mp4",
        "/v1/videos/{video_id}/retry",
        "/v1/admin/models",
        "/v1/admin/reload",
        "/v1/identities/search",
        "/v1/identities/{identity_id}",
        "/v1/identities/{identity_id}/thumbnail.jpg",
        "/healthz",
        "/readyz",
    }
    assert "multipart/form-data" in paths["/v1/videos"]["post"]["requestBody"]["content"]
    for method in (method for path in paths.values() for method in path.values()):
        for status, response in method["responses"].items():
            assert status[0] in "23" or "application/problem+json" in response["content"]


def test_a_person_in_two_videos_is_found_from_one_in_the_other(
    client: httpx.Client, clips: list[Path], folder: Path
) -> None:
    first, other, again = (post(client, path).json()["id"] for path in (*clips, clips[0]))
    assert {finished(client, video_id)["status"] for video_id in (first, other, again)} == {"done"}
    rows = [row for frame in client.get(f"/v1/videos/{first}/tracks").json()["frames"] for row in frame["tracks"]]
    identity = Counter(row["id"] for row in rows).most_common(1)[0][
        0
    ]  # a person who passes by too quickly is not embedded
    row = next(row for row in rows if row["id"] == identity)
    for query in ({"identity": row["id"]}, {"track": row["track"]}):
        answer = client.post("/v1/identities/search", json={"video_id": first, "limit": 50, **query})
        assert answer.status_code == 200, answer.text
        matches = answer.json()["matches"]
        assert (matches[0]["video_id"], matches[0]["identity"]) == (again, row["id"])
        assert matches[0]["distance"] == pytest.approx(0, abs=0.01)
        assert {match["video_id"] for match in matches} == {again, other}
    thumbnail = client.get(matches[0]["thumbnail"])
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/jpeg")
    answer = client.post("/v1/identities/search", files={"file": thumbnail.content}, data={"limit": 2})
    assert {(match["video_id"], match["identity"]) for match in answer.json()["matches"]} == {
        (first, row["id"]),
        (again, row["id"]),
    }
    client.delete(f"/v1/videos/{again}")
    assert client.get(matches[0]["thumbnail"]).status_code == 404
    answer = client.post("/v1/identities/search", json={"video_id": first, "identity": row["id"]})
    assert {match["video_id"] for match in answer.json()["matches"]} == {other}


def test_a_failed_video_leaves_no_person_in_the_index(client: httpx.Client, clips: list[Path], folder: Path) -> None:
    video_id = post(client, clips[0]).json()["id"]
    eventually(lambda: client.get(f"/v1/videos/{video_id}").json()["frames_done"] > 8, "some tracks")
    lose(video_id, folder)
    assert finished(client, video_id)["status"] == "failed"
    assert video_id not in IdentityStore(folder / "data", 1).videos()
    assert client.post("/v1/identities/search", json={"video_id": video_id, "identity": 1}).status_code == 409


def test_detector_death_is_survived(client: httpx.Client, clips: list[Path], local: list[list[dict[str, Any]]]) -> None:
    video_id = post(client, clips[0]).json()["id"]
    eventually(lambda: client.get(f"/v1/videos/{video_id}").json()["status"] == "running", "the start")
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if "Detector" in actor["name"]:
            ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
    assert finished(client, video_id)["status"] == "done"
    assert_same(client.get(f"/v1/videos/{video_id}/tracks").json()["frames"], local[0])


def replica_of(deployment: str) -> Any:
    """Return a replica of a deployment."""
    names = (one for one in ray.util.list_named_actors(all_namespaces=True) if f"#{deployment}#" in one["name"])
    return next(ray.get_actor(one["name"], namespace=one["namespace"]) for one in names)


def test_a_session_that_hangs_is_killed_and_holds_up_no_other(
    client: httpx.Client, clips: list[Path], folder: Path, local: list[list[dict[str, Any]]]
) -> None:
    """Ray Serve's replica waits until the stopped process takes its answer; killing the process ends that."""
    prepared_sessions()  # otherwise the first one may be done when the other one begins
    hanging, neighbour = (post(client, clip).json()["id"] for clip in clips)
    for one in (hanging, neighbour):
        checkpoint = folder / "data" / "videos" / one / "checkpoint-0.npz"
        eventually(checkpoint.exists, "a checkpoint")
    os.kill(process_of(session_of(job_of(hanging, folder))), signal.SIGSTOP)
    for one, expected, resumed in ((neighbour, local[1], 0), (hanging, local[0], 1)):
        video = finished(client, one)
        assert (video["status"], video["frames_done"], video["resumed"]) == ("done", 75, resumed)
        assert_same(client.get(f"/v1/videos/{one}/tracks").json()["frames"], expected)


def test_a_detector_that_hangs_is_replaced(
    client: httpx.Client, clips: list[Path], local: list[list[dict[str, Any]]]
) -> None:
    video_id = post(client, clips[0]).json()["id"]
    eventually(lambda: client.get(f"/v1/videos/{video_id}").json()["status"] == "running", "the start")
    os.kill(process_of(replica_of("Detector")), signal.SIGSTOP)
    assert finished(client, video_id)["status"] == "done"
    assert_same(client.get(f"/v1/videos/{video_id}/tracks").json()["frames"], local[0])


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("session.actor", ("torch", "faiss")),
        ("inference.replica", ("torch", "ultralytics", "scipy", "av")),
        ("observability.metrics_collector", ("torch", "scipy", "cv2", "av")),
    ],
)
def test_processes_load_only_what_they_need(module: str, libraries: tuple[str, ...]) -> None:
    code = f"import sys, motserve.serving.{module}; sys.exit(sorted({{*sys.modules}} & {{*{libraries!r}}}) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_requests_of_any_kind_get_what_is_documented(client: httpx.Client, service: str, folder: Path) -> None:
    """Some seconds of what `make fuzz-api` does, until a posted video was read or deleted."""
    write_files(folder / "allowed")
    answers: Counter[str] = Counter()

    def sends(phases: str, seed: int) -> None:
        outcome = send_requests(service, folder / "allowed", seconds=10, seed=seed, phases=phases)
        assert outcome.ok, outcome.report
        answers.update(outcome.answers)

    sends("examples,coverage", seed=1)
    for seed in range(1, 13):
        sends("stateful", seed)
        posted = [answer for answer in answers if answer in ("POST /v1/videos 202", "POST /v1/videos 200")]
        used = [answer for answer in answers if "{video_id}" in answer and answer[-3] == "2"]
        if posted and used:
            return
    pytest.fail(f"no posted video was read or deleted: {answers}")


def test_another_tracker_is_served_as_it_runs_locally(service: str, folder: Path) -> None:
    """A tracker that embeds every person and compensates camera motion. It redeploys the service, so it comes last."""
    settings = {**SETTINGS, "tracker": {"name": "strongsort"}}
    clip = write_clip(folder / "short.mp4", 1)
    (expected,) = tracked_locally([clip], settings)
    assert any(frame["tracks"] for frame in expected)
    deploy({**settings, "serving": serving_settings(folder)})
    with httpx.Client(base_url=service, timeout=120) as client:
        assert_same(track(client, clip), expected)
