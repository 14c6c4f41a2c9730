"""The routes of identities with real stores and an embedder that distinguishes colours."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient
from pictures import decode_picture
from PIL import Image
from ray.exceptions import RayActorError

from motserve.config import Config, load_config
from motserve.people.identity_summaries import IdentitySummary
from motserve.people.model_key import model_key
from motserve.serving.api import Service, build_http
from motserve.serving.inference.backends import Backends, ModelInfo
from motserve.serving.stores import Job
from motserve.types import FloatArray

SHA = "a1b2"
COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0), "yellow": (0, 230, 230)}


def embeddings_of(crops: np.ndarray) -> FloatArray:
    """Embed crops by their mean colour."""
    means = crops.reshape(len(crops), -1, 3).mean(axis=1) + 1e-3
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


class Call:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def remote(self, *values: Any) -> Any:
        result = self._function(*values)
        return await result if asyncio.iscoroutine(result) else result


class EmbedderHandle:
    """A fake handle of the embedder deployment."""

    def __init__(self) -> None:
        self.info = Call(lambda _: ModelInfo({"name": "fake", "sha256": SHA, "fallback": ""}))
        self.infer = Call(lambda crops, *_: embeddings_of(crops))


@pytest.fixture
def service(tmp_path: Path) -> Service:
    limits = {"max_picture_bytes": 200_000, "max_picture_pixels": 500_000, "embed_timeout_s": 0.2, "max_results": 3}
    config = load_config([{"serving": {"storage_dir": str(tmp_path), "identities": limits}}])
    handle: Any = EmbedderHandle()
    return Service(config, "deployment", Backends(handle, handle, handle))


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service), raise_server_exceptions=False) as client:
        yield client


def crop(colour: str, size: tuple[int, int] = (128, 64)) -> np.ndarray:
    return np.full((*size, 3), COLOURS[colour], np.uint8)


def encoded(picture: np.ndarray, suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, picture)[1])


def add_video(service: Service, video_id: str, *colours: str, model: str | None = None) -> None:
    """Add a finished video with one identity per colour, in order."""
    service.jobs.add(Job(video_id, f"{video_id}.mp4", "", 0.0, status="done"), 100, 5)
    summaries = [
        IdentitySummary(number, 1.0, 2.5, embeddings_of(crop(colour)[None]), encoded(crop(colour), ".jpg"))
        for number, colour in enumerate(colours, 1)
    ]
    service.identities.put(video_id, model or model_key({"sha256": SHA}, Config().reid), summaries)


def search(client: httpx.Client, picture: bytes, **fields: Any) -> httpx.Response:
    return client.post("/v1/identities/search", files={"file": ("crop.png", picture)}, data=fields)


def people(answer: httpx.Response) -> list[tuple[str, int]]:
    assert answer.status_code == 200, answer.text
    return [(match["video_id"], match["identity"]) for match in answer.json()["matches"]]


def assert_problem(answer: httpx.Response, status: int, message: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert message in answer.json()["detail"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_search_with_a_picture_returns_similar_people(service: Service, client: httpx.Client, suffix: str) -> None:
    add_video(service, "a", "red", "green")
    add_video(service, "b", "blue", "red")
    answer = search(client, encoded(crop("red"), suffix), max_distance=0.1)
    assert sorted(people(answer)) == [("a", 1), ("b", 2)]
    match = answer.json()["matches"][0]
    assert match["distance"] == pytest.approx(0, abs=2e-3)
    assert (match["video_name"], match["first_seen_s"], match["last_seen_s"]) == (f"{match['video_id']}.mp4", 1, 2.5)
    assert answer.json()["query"] is None
    assert answer.json()["model"].startswith(SHA)


def test_matches_are_sorted_by_distance_and_limited(service: Service, client: httpx.Client) -> None:
    add_video(service, "a", "red", "yellow", "green", "blue")
    answer = search(client, encoded(crop("red")), limit=100)
    distances = [match["distance"] for match in answer.json()["matches"]]
    assert len(distances) == 3, "serving.identities.max_results caps the limit"
    assert distances == sorted(distances)
    assert people(search(client, encoded(crop("red")), limit=2)) == [("a", 1), ("a", 2)]


def test_a_person_of_a_video_is_searched_for_in_other_videos(service: Service, client: httpx.Client) -> None:
    add_video(service, "a", "red", "red", "green")
    add_video(service, "b", "blue", "red")
    query = {"video_id": "a", "identity": 1, "max_distance": 0.1}
    answer = client.post("/v1/identities/search", json=query)
    assert people(answer) == [("b", 2)]
    assert answer.json()["query"]["id"] == service.identities.find("a", 1).id
    answer = client.post("/v1/identities/search", json={**query, "include_same_video": True})
    assert sorted(people(answer)) == [("a", 2), ("b", 2)]


def test_a_track_stands_for_the_identity_of_most_of_its_frames(service: Service, client: httpx.Client) -> None:
    add_video(service, "a", "red", "green")
    add_video(service, "b", "green", "red")
    lines = [
        {"frame": frame, "tracks": [{"id": 1 if frame < 2 else 2, "track": 7}, {"id": 9, "track": 8}]}
        for frame in range(5)
    ]
    service.artifacts.create("a")
    service.artifacts.results("a").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    answer = client.post("/v1/identities/search", json={"video_id": "a", "track": 7, "limit": 1})
    assert answer.json()["query"]["identity"] == 2
    assert people(answer) == [("b", 1)]
    assert_problem(client.post("/v1/identities/search", json={"video_id": "a", "track": 6}), 404, "no track 6")
    assert_problem(
        client.post("/v1/identities/search", json={"video_id": "a", "track": 8}), 404, "identity 9 of video a"
    )


def test_an_identity_and_its_thumbnail_are_returned(service: Service, client: httpx.Client) -> None:
    add_video(service, "a", "green")
    (match,) = search(client, encoded(crop("red"))).json()["matches"]
    details = client.get(f"/v1/identities/{match['id']}").json()
    assert details == {key: value for key, value in match.items() if key != "distance"}
    thumbnail = client.get(match["thumbnail"])
    assert thumbnail.headers["content-type"] == "image/jpeg"
    pixels = decode_picture(thumbnail.content)
    np.testing.assert_allclose(pixels, crop("green"), atol=3)


def test_identities_are_deleted_with_their_video(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.sessions, "find", lambda *_: None)
    add_video(service, "a", "red")
    add_video(service, "b", "red")
    deleted = service.identities.find("a", 1).id
    assert len(people(search(client, encoded(crop("red"))))) == 2
    assert client.delete("/v1/videos/a").status_code == 204
    assert people(search(client, encoded(crop("red")))) == [("b", 1)]
    for path in (f"/v1/identities/{deleted}", f"/v1/identities/{deleted}/thumbnail.jpg"):
        assert_problem(client.get(path), 404, f"no identity {deleted}")
    assert_problem(client.post("/v1/identities/search", json={"video_id": "a", "identity": 1}), 404, "no video a")


def test_identities_of_a_deleted_video_do_not_displace_matches(service: Service, client: httpx.Client) -> None:
    add_video(service, "a", "red", "red", "red", "red")
    add_video(service, "b", "yellow")
    service.jobs.delete("a")  # as if the session had written after the video was deleted
    assert people(search(client, encoded(crop("red")), limit=1)) == [("b", 1)]
    assert service.identities.videos() == {"b"}


def test_a_service_that_starts_deletes_identities_of_deleted_and_failed_videos(service: Service) -> None:
    for video in "abc":
        add_video(service, video, "red")
    service.jobs.delete("a")
    service.jobs.delete("b")
    service.jobs.add(Job("b", "b.mp4", "", 0.0, status="failed"), 100, 5)
    again = Service(service.config, service.deployment, service.backends)
    assert again.identities.videos() == {"a", "b", "c"}, "a constructor deletes nothing"
    with TestClient(build_http(again)):
        pass
    assert again.identities.videos() == {"c"}


def test_embeddings_of_different_weights_are_not_compared(service: Service, client: httpx.Client) -> None:
    assert people(search(client, encoded(crop("red")))) == []
    add_video(service, "a", "red", model="other")
    add_video(service, "b", "red", model="other")
    assert_problem(search(client, encoded(crop("red"))), 409, "different weights")
    assert people(client.post("/v1/identities/search", json={"video_id": "a", "identity": 1})) == [("b", 1)]
    add_video(service, "c", "blue")
    assert people(search(client, encoded(crop("red")))) == [("c", 1)]


def truncated() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (200, 100, 3), np.uint8)
    return encoded(noise, ".jpg")[:5000]


def animation() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 128)).save(stream, "GIF")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 422, "empty"),
        (b"not a picture at all", 422, "neither JPEG nor PNG"),
        (animation(), 422, "neither JPEG nor PNG"),
        (truncated(), 422, "cannot be decoded"),
        (encoded(crop("red", (31, 64))), 422, "31 pixels high"),
        (encoded(crop("red", (1000, 501))), 413, "more than 500000 pixels"),
        (encoded(crop("red"))[:60] + bytes(300_000), 413, "max_picture_bytes"),
    ],
)
def test_invalid_pictures_are_refused(client: httpx.Client, data: bytes, status: int, message: str) -> None:
    assert_problem(search(client, data), status, message)


def test_malformed_searches_are_refused(client: httpx.Client) -> None:
    picture = {"file": ("a.png", encoded(crop("red")))}
    form = {"content-type": "multipart/form-data; boundary=x"}
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({}, 415, "no content type"),
        ({"content": b"x", "headers": {"content-type": "image/png"}}, 415, "image/png"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "Invalid JSON"),
        ({"json": {"identity": 1}}, 400, "video_id"),
        ({"json": {"video_id": "a"}}, 400, "either `identity` or `track`"),
        ({"json": {"video_id": "a", "identity": 1, "track": 1}}, 400, "either `identity` or `track`"),
        ({"json": {"video_id": "a", "identity": 0}}, 400, "identity"),
        ({"json": {"video_id": "a", "identity": 2**63}}, 400, "identity"),
        ({"json": {"video_id": "a", "identity": 1, "max_distance": 3}}, 400, "max_distance"),
        ({"json": {"video_id": "a", "identity": 1, "colour": "red"}}, 400, "colour"),
        ({"json": {"video_id": "a", "identity": 1}}, 404, "no video a"),
        ({"files": picture, "data": {"limit": 0}}, 400, "limit"),
        ({"files": picture, "data": {"limit": "many"}}, 400, "limit"),
        ({"files": picture, "data": {"video_id": "a"}}, 400, "video_id"),
        ({"files": [("file", picture["file"])] * 2}, 400, "holds 2"),
        ({"content": b"", "headers": form}, 400, "holds 0"),
        ({"content": b"garbage", "headers": form}, 400, "malformed"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, 400, "no boundary"),
    ]
    for arguments, status, message in cases:
        assert_problem(client.post("/v1/identities/search", **arguments), status, message)
    assert_problem(client.get("/v1/identities/1"), 404, "no identity 1")
    for path, status in (("0", 422), (str(2**63), 422), ("x", 404), ("-1", 404), ("search", 405)):
        assert client.get(f"/v1/identities/{path}").status_code == status
    assert client.get("/v1/identities/search").headers["allow"] == "POST"


def test_identities_of_a_running_or_failed_video_cannot_be_searched_for(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.sessions, "find", lambda *_: "an actor")
    for status in ("running", "failed"):
        service.jobs.add(Job(status, "", "", 0.0, status=status), 100, 5)
        answer = client.post("/v1/identities/search", json={"video_id": status, "identity": 1})
        assert_problem(answer, 409, f"is {status}")


def test_an_embedder_that_does_not_answer_is_a_503(service: Service, client: httpx.Client) -> None:
    def dies(*_: Any) -> None:
        raise RayActorError

    embedder: Any = service.backends.embedder
    for call, message in ((lambda *_: asyncio.sleep(60), "within 0.2 s"), (dies, "died")):
        embedder.infer = Call(call)
        assert_problem(search(client, encoded(crop("red"))), 503, message)


def test_a_disabled_identity_index_is_a_409(tmp_path: Path) -> None:
    config = load_config([{"serving": {"storage_dir": str(tmp_path), "identities": {"enabled": False}}}])
    handle: Any = EmbedderHandle()
    with TestClient(build_http(Service(config, "deployment", Backends(handle, handle, handle)))) as client:
        for answer in (search(client, encoded(crop("red"))), client.get("/v1/identities/1")):
            assert_problem(answer, 409, "serving.identities.enabled")
