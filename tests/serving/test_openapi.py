"""The OpenAPI document tells what the service does: schemas, headers, links and who needs a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.testclient import TestClient
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from service_checks import service_without_cluster

from motserve.serving.api import Service, build_http
from motserve.serving.stores import Job

VIDEO = "a" * 32
PERSON = b'{"id":1,"track":1,"box":[1.0,2.0,3.5,4.0],"confidence":0.9,"class":"person","state":"measured"'
SOURCE = b',"reidentified_from":{"track":1,"distance":0.2,"gap_s":1.5,"moved":0.1}'
LINES = (
    b'{"frame":0,"timestamp":0.0,"tracks":[' + PERSON + b"}]}\n",
    b'{"frame":1,"timestamp":0.04,"tracks":[' + PERSON + SOURCE + b"}]}\n",
)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    service = service_without_cluster(tmp_path / "data", monkeypatch)
    service.jobs.add(Job(VIDEO, "clip.mp4", str(tmp_path / "clip.mp4"), 1.0), 10, 5)
    return service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service)) as client:
        yield client


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["operationId"]: one for path in document["paths"].values() for one in path.values()}


def validator(document: dict[str, Any], pointer: str) -> jsonschema.Draft202012Validator:
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    return jsonschema.Draft202012Validator({"$ref": f"urn:document#{pointer}"}, registry=registry)


def test_every_reference_and_every_link_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (value["$ref"],) if isinstance(value.get("$ref"), str) else ()
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from references(each)

    for reference in set(references(document)):
        target = document
        for key in reference.removeprefix("#/").split("/"):
            target = target[key]
    known = operations(document)
    links = [
        link
        for one in known.values()
        for answer in one["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert len(links) > 20
    for link in links:
        names = {parameter["name"] for parameter in known[link["operationId"]].get("parameters", ())}
        assert link["parameters"].keys() <= names
    assert {link["operationId"] for link in known["post_video"]["responses"]["202"]["links"].values()} == {
        "get_video", "get_tracks", "get_annotated", "retry_video", "delete_video", "search"
    }  # fmt: skip


def test_a_token_is_required_only_if_the_service_has_one(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_without_cluster(tmp_path / "other", monkeypatch, serving={"admin_token": "a-token-of-sixteen"})
    guarded = build_http(service).openapi()
    assert not any("security" in one for one in operations(document).values())
    assert "securitySchemes" not in document["components"]
    assert {name for name, one in operations(guarded).items() if "security" in one} == {"get_models", "reload_models"}
    answer = operations(guarded)["get_models"]["responses"]["401"]
    assert answer["headers"].keys() == {"WWW-Authenticate", "X-Request-ID"}


def test_headers_of_answers_are_documented(document: dict[str, Any]) -> None:
    for name, one in operations(document).items():
        for status, answer in one["responses"].items():
            assert "X-Request-ID" in answer["headers"], (name, status)
            assert ("Retry-After" in answer["headers"]) == (status == "503")
        if "304" in one["responses"]:
            assert "If-None-Match" in {parameter["name"] for parameter in one["parameters"]}
            assert "ETag" in one["responses"]["200"]["headers"]
    assert operations(document)["post_video"]["responses"]["202"]["headers"]["Location"]["required"]


@pytest.mark.parametrize("status", ["queued", "done", "failed"])
def test_tracks_match_their_schema(
    client: httpx.Client, service: Service, document: dict[str, Any], status: str
) -> None:
    if status != "queued":
        service.artifacts.create(VIDEO)
        service.artifacts.results(VIDEO).write_bytes(b"".join(LINES))
        error = {"error": {"type": "InvalidVideo", "message": "cut off"}} if status == "failed" else {}
        service.jobs.write(VIDEO, 0, status=status, **error)
    answer = client.get(f"/v1/videos/{VIDEO}/tracks", params={"partial": True})
    assert len(answer.json()["frames"]) == (0 if status == "queued" else 2)
    check = validator(document, "/components/schemas/TrackedVideo")
    check.validate(answer.json())
    assert not check.is_valid({**answer.json(), "frames": [{"frame": 0}]})


@pytest.mark.parametrize(
    ("url", "valid"),
    [
        ("file:///a.mp4", True),
        ("file://localhost/a/b%20c.mp4", True),
        ("file:///a%25.mp4", True),
        ("file:///\u00e9", True),
        ("a.mp4", False),
        ("http://example/a.mp4", False),
        ("file://server/a.mp4", False),
        ("file:///a?b", False),
        ("file:///a#b", False),
        ("file:///a%00", False),
        ("file:///a\0", False),
    ],
)
def test_the_schema_of_urls_says_which_are_refused_as_bad(
    client: httpx.Client, document: dict[str, Any], url: str, valid: bool
) -> None:
    assert validator(document, "/components/schemas/VideoUrl").is_valid({"url": url}) == valid
    assert client.post("/v1/videos", json={"url": url}).status_code == (403 if valid else 400)


@pytest.mark.parametrize(
    ("person", "valid"),
    [
        ({"identity": 1}, True),
        ({"track": 1}, True),
        ({"identity": None, "track": 1}, True),
        ({}, False),
        ({"identity": 1, "track": 1}, False),
        ({"identity": None}, False),
        ({"identity": 0}, False),
        ({"track": 1, "more": 1}, False),
    ],
)
def test_the_schema_of_a_search_asks_for_one_person(
    client: httpx.Client, document: dict[str, Any], person: dict[str, Any], valid: bool
) -> None:
    body = {"video_id": "none", **person}
    assert validator(document, "/components/schemas/IdentitySearch").is_valid(body) == valid
    assert client.post("/v1/identities/search", json=body).status_code == (404 if valid else 400)


def test_fields_of_forms_are_never_null(document: dict[str, Any]) -> None:
    forms = {
        name: operations(document)[name]["requestBody"]["content"]["multipart/form-data"]
        for name in ("post_video", "search")
    }
    assert forms["search"]["schema"]["properties"].keys() == {"file", "limit", "max_distance"}
    assert "'null'" not in str(forms["search"])
    assert not forms["search"]["schema"]["additionalProperties"]
    assert forms["post_video"]["schema"]["additionalProperties"]
    assert {name: form["encoding"]["file"]["contentType"] for name, form in forms.items()} == {
        "post_video": "video/*",
        "search": "image/jpeg, image/png",
    }
