"""New models without a restart: the parts, with stand-ins for networks and handles."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from ray.exceptions import RayTaskError

from motserve.config import Config, change_config, load_config
from motserve.config.sections import Role
from motserve.errors import Conflict, InvalidConfig, MotserveError, NotReady
from motserve.serving.choice import DetectorChoice
from motserve.serving.ingress.deployment import build_http
from motserve.serving.ingress.service import Service
from motserve.serving.reloader import Reloader
from motserve.serving.replica import ModelInfo
from motserve.serving.served import ServedModels
from motserve.serving.shelf import ModelShelf, Names

OLD: Names = ("models:/people/1", "bundled")
NEW: Names = ("models:/people/2", "bundled")
PERSON = {0: "person"}


def info_of(names: Names, classes: dict[int, str] = PERSON, loaded: int = 0) -> ModelInfo:
    """What a replica says of the model of those names, of which it has loaded one."""
    name = names[loaded].removeprefix("models:/")
    fallback = "" if loaded == 0 else f"{names[0]} cannot be had"
    return ModelInfo({"name": name, "sha256": f"sha of {name}", "fallback": fallback}, classes)


def config_in(folder: Path, **reload: Any) -> Config:
    return load_config([{"serving": {"storage_dir": str(folder), "reload": reload}, "reid": {"policy": "on_demand"}}])


# --- the shelf --------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, names: Names) -> None:
        self.names = names


def test_who_asks_at_once_waits_for_one_load() -> None:
    go, loads = threading.Event(), []

    def load(names: Names) -> Model:
        loads.append(names)
        assert go.wait(30)
        return Model(names)

    async def run() -> None:
        shelf = ModelShelf("detector", load, 2)
        asked = [asyncio.create_task(shelf.get(OLD)) for _ in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
        go.set()
        models = await asyncio.gather(*asked[1:])
        assert models[0] is models[1]
        assert loads == [OLD]
        with pytest.raises(asyncio.CancelledError):
            await asked[0]

    asyncio.run(run())


def test_a_load_does_not_hold_up_the_others() -> None:
    go = threading.Event()

    def load(names: Names) -> Model:
        assert names == OLD or go.wait(30)
        return Model(names)

    async def run() -> None:
        shelf = ModelShelf("detector", load, 2)
        await shelf.get(OLD)
        slow = asyncio.create_task(shelf.get(NEW))
        await asyncio.sleep(0)
        assert (await asyncio.wait_for(shelf.get(OLD), 10)).names == OLD
        go.set()
        assert (await slow).names == NEW

    asyncio.run(run())


def test_the_shelf_is_bounded_and_keeps_what_was_asked_for_last() -> None:
    loads: list[Names] = []

    def load(names: Names) -> Model:
        loads.append(names)
        return Model(names)

    async def run() -> None:
        shelf = ModelShelf("detector", load, 2)
        a, b, c = ("a",), ("b",), ("c",)
        for names in (a, b, a, c, a, b):
            assert (await shelf.get(names)).names == names
        assert loads == [a, b, c, b], "a was asked for again before c came"
        in_use = await shelf.get(a)
        gone = weakref.ref(in_use)
        await shelf.get(c)
        await shelf.get(b)
        assert gone() is in_use, "whoever works with a model keeps it"
        del in_use
        gc.collect()
        assert gone() is None, "and then its memory is free"

    asyncio.run(run())


def test_a_load_that_failed_is_tried_again() -> None:
    outcomes: list[Any] = [InvalidConfig("broken"), Model(OLD)]

    def load(names: Names) -> Model:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run() -> None:
        shelf = ModelShelf("detector", load, 2)
        with pytest.raises(InvalidConfig):
            await shelf.get(OLD)
        assert (await shelf.get(OLD)).names == OLD

    asyncio.run(run())


# --- what is current --------------------------------------------------------------------------------------------------


def test_all_of_a_deployment_agree(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    first, second = ServedModels(tmp_path, "a"), ServedModels(tmp_path, "a")
    assert first.current("detector") is None
    assert first.names("detector", config, lambda *_: OLD) == OLD
    assert second.names("detector", config, lambda *_: pytest.fail("is known")) == OLD
    second.change("detector", OLD, NEW)
    assert first.current("detector") == NEW
    second.change("detector", OLD, ("late",))
    assert first.current("detector") == NEW, "somebody else was faster"
    assert first.names("reid", config, lambda *_: ("bundled",)) == ("bundled",)
    assert ServedModels(tmp_path, "b").names("detector", config, lambda *_: OLD) == OLD, "another begins anew"
    assert first.current("detector") == NEW


def test_deployments_are_forgotten(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    for number in range(105):
        ServedModels(tmp_path, str(number)).names("detector", config, lambda *_: OLD)
    known = [ServedModels(tmp_path, str(number)).current("detector") is not None for number in range(105)]
    assert known == [False] * 5 + [True] * 100


# --- reloading --------------------------------------------------------------------------------------------------------


class Handle:
    """Stands for the handle of a deployment; its replicas answer what they are told to, by names."""

    def __init__(self, answers: dict[Names, Any]) -> None:
        self.answers = answers
        self.info = self

    async def remote(self, names: Names) -> ModelInfo:
        answer = self.answers[names]
        if isinstance(answer, Exception):
            raised = RayTaskError("info", f"Traceback …\n{answer}", answer)  # as a handle raises it
            raise raised.as_instanceof_cause()
        if answer is None:
            await asyncio.Event().wait()
        assert isinstance(answer, ModelInfo)
        return answer


class Pins:
    """What the registry says."""

    def __init__(self, **names: Names) -> None:
        self.names = names
        self.asked = 0

    def __call__(self, role: Role, config: Config) -> Names:
        self.asked += 1
        return self.names[role]


def reloader_of(folder: Path, pins: Pins, answers: dict[Names, Any], **reload: Any) -> tuple[Reloader, ServedModels]:
    served = ServedModels(folder, "a")
    known = {OLD: info_of(OLD), NEW: info_of(NEW), ("bundled",): info_of(("bundled",)), **answers}
    handle = Handle(known)
    return Reloader(config_in(folder, **reload), served, {"detector": handle, "reid": handle}, pins), served


def test_reload_changes_what_changed(tmp_path: Path) -> None:
    pins = Pins(detector=OLD, reid=("bundled",))
    reloader, served = reloader_of(tmp_path, pins, {})
    assert asyncio.run(reloader.info("detector", 1)).weights["name"] == "people/1"
    assert not any(change.changed for change in asyncio.run(reloader.reload()).values())
    pins.names["detector"] = NEW
    changes = asyncio.run(reloader.reload())
    assert (changes["detector"].changed, changes["reid"].changed) == (True, False)
    assert changes["detector"].before.weights["name"] == "people/1"
    assert changes["detector"].now.weights["name"] == "people/2"
    assert served.current("detector") == NEW


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (InvalidConfig("detector.classes: 'person' is no class of a.pt"), Conflict, "does not serve.*is no class"),
        (RuntimeError("size mismatch"), Conflict, "does not serve, everything stays as it is: RuntimeError: size mis"),
        (TimeoutError("the registry is slow"), Conflict, "does not serve.*TimeoutError: the registry is slow"),
        (info_of(NEW, loaded=1), Conflict, "in its place bundled was loaded.*cannot be had"),
        (None, NotReady, "was not loaded within"),
    ],
)
def test_a_reload_that_fails_changes_nothing(
    tmp_path: Path, answer: Any, error: type[MotserveError], said: str
) -> None:  # fmt: skip
    pins = Pins(detector=OLD, reid=OLD)
    reloader, served = reloader_of(tmp_path, pins, {NEW: answer}, load_timeout_s=0.2)
    asyncio.run(reloader.reload())
    pins.names = {"detector": NEW, "reid": NEW}
    with pytest.raises(error, match=said):
        asyncio.run(reloader.reload())
    assert (served.current("detector"), served.current("reid")) == (OLD, OLD)


def test_a_preferred_name_that_did_not_change_may_win(tmp_path: Path) -> None:
    before, after = ("mine.pt", OLD[0]), ("mine.pt", NEW[0])
    pins = Pins(detector=before, reid=OLD)
    reloader, served = reloader_of(tmp_path, pins, {before: info_of(before), after: info_of(after)})
    asyncio.run(reloader.reload())
    pins.names["detector"] = after
    assert asyncio.run(reloader.reload())["detector"].now.weights["name"] == "mine.pt"
    assert served.current("detector") == after


def test_a_registry_that_is_down_changes_nothing(tmp_path: Path) -> None:
    asked = ("models:/people@production", "bundled")
    pins = Pins(detector=OLD, reid=OLD)
    reloader, served = reloader_of(tmp_path, pins, {asked: info_of(OLD)})
    asyncio.run(reloader.reload())
    pins.names = {"detector": asked, "reid": asked}
    with pytest.raises(NotReady, match="does not say which detector models:/people@production is"):
        asyncio.run(reloader.reload())
    assert served.current("detector") == OLD


def test_a_service_that_started_without_the_registry(tmp_path: Path) -> None:
    asked = ("models:/people@production", "bundled")
    pins = Pins(detector=asked, reid=asked)
    reloader, _ = reloader_of(tmp_path, pins, {asked: info_of(OLD)})
    assert not any(change.changed for change in asyncio.run(reloader.reload()).values())
    pins.names["detector"] = NEW
    assert asyncio.run(reloader.reload())["detector"].now.weights["name"] == "people/2"


def test_polling_reloads_and_survives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pins = Pins(detector=OLD, reid=OLD)
    reloader, served = reloader_of(tmp_path, pins, {("bad",): InvalidConfig("bad")}, poll_s=0.01)

    async def until(condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), 30)

    async def run() -> None:
        async with reloader.polling():
            await until(lambda: served.current("reid") == OLD)
            pins.names["detector"] = ("bad",)
            asked = pins.asked
            await until(lambda: pins.asked > asked + 10)
            pins.names["detector"] = NEW
            await until(lambda: served.current("detector") == NEW)
        asked = pins.asked
        await asyncio.sleep(0.05)
        assert pins.asked == asked, "it ends with the application"

    asyncio.run(run())
    assert caplog.text.count("the models stay as they are") == 1, "said once"


def test_the_routes(tmp_path: Path) -> None:
    pins = Pins(detector=OLD, reid=("bundled",))
    handle: Any = Handle({OLD: info_of(OLD), NEW: info_of(NEW), ("bundled",): info_of(("bundled",))})
    service = Service(config_in(tmp_path), "a", handle, handle, handle)
    handles: dict[Role, Any] = {"detector": handle, "reid": handle}
    service.reloader = Reloader(service.config, ServedModels(tmp_path, "a"), handles, pins)
    with TestClient(build_http(service)) as client:
        assert client.get("/v1/admin/models").json()["detector"]["name"] == "people/1"
        pins.names["detector"] = NEW
        answer = client.post("/v1/admin/reload").json()
        assert answer["detector"]["changed"]
        assert answer["detector"]["now"] == {"name": "people/2", "sha256": "sha of people/2", "fallback": ""}
        assert not answer["reid"]["changed"]
        assert client.get("/readyz").json()["models"]["detector"]["name"] == "people/2"
        pins.names["detector"] = OLD
        handle.answers[OLD] = info_of(OLD, loaded=1)
        refused = client.post("/v1/admin/reload")
        assert refused.status_code == 409
        assert "in its place bundled was loaded" in refused.json()["detail"]
        assert client.get("/v1/admin/models").json()["detector"]["name"] == "people/2"


TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer 0123456789abcdeF", 401),
        ("Bearer pässword-pässword", 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN}", 200),
    ],
)
def test_administration_asks_for_the_token(tmp_path: Path, header: str | None, status: int) -> None:
    config = change_config(config_in(tmp_path), {"serving": {"admin_token": TOKEN}})
    handle: Any = Handle({OLD: info_of(OLD), ("bundled",): info_of(("bundled",))})
    service = Service(config, "a", handle, handle, handle)
    service.reloader = Reloader(
        config, ServedModels(tmp_path, "a"), {"detector": handle, "reid": handle}, Pins(detector=OLD, reid=("bundled",))
    )
    with TestClient(build_http(service)) as client:
        headers = {"Authorization": header.encode()} if header else {}
        for answer in (
            client.get("/v1/admin/models", headers=headers),
            client.post("/v1/admin/reload", headers=headers),
        ):
            assert answer.status_code == status
            assert TOKEN not in answer.text
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.headers["content-type"] == "application/problem+json"
        assert client.get("/readyz").status_code == 200, "probes need no token"


def test_the_token_may_come_from_the_environment_and_is_written_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for token in (TOKEN, "1234567890123456", "0x1234567890abcdef", "[a-list-of-words]"):
        monkeypatch.setenv("MOTSERVE_SERVING__ADMIN_TOKEN", token)
        config = load_config()
        found = config.serving.admin_token
        assert found is not None
        assert found.get_secret_value() == token
        assert token not in f"{config!r} {config.model_dump_json()}"
    monkeypatch.setenv("MOTSERVE_SERVING__ADMIN_TOKEN", "short")
    with pytest.raises(InvalidConfig, match=r"serving\.admin_token"):
        load_config()


# --- running videos ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def choice_of(
    folder: Path, clock: Clock, follow: bool, answers: dict[Names, Any]
) -> tuple[DetectorChoice, ServedModels]:
    served = ServedModels(folder, "a")
    served.names("detector", config_in(folder), lambda *_: OLD)
    return DetectorChoice(served, OLD, info_of(OLD), Handle(answers).remote, follow, "video", clock), served


def test_a_video_that_follows_changes_at_a_chunk(tmp_path: Path) -> None:
    clock = Clock()
    choice, served = choice_of(tmp_path, clock, True, {NEW: info_of(NEW)})

    async def run() -> None:
        assert await choice.next_chunk(8) == OLD
        served.change("detector", OLD, NEW)
        assert await choice.next_chunk(8) == OLD, "it looks once a second"
        clock.now = 1.0
        first, second = await asyncio.gather(choice.next_chunk(8), choice.next_chunk(5))
        assert (first, second) == (NEW, NEW), "the one behind waits until it is known"
        served.change("detector", NEW, OLD)
        clock.now = 2.0
        assert await choice.next_chunk(8) == NEW, "OLD cannot be had here"

    asyncio.run(run())
    assert choice.switches == [{"frame": 16, "detector": info_of(NEW).weights}]


def test_a_video_that_finishes_stays(tmp_path: Path) -> None:
    clock = Clock()
    choice, served = choice_of(tmp_path, clock, False, {})
    served.change("detector", OLD, NEW)
    clock.now = 100.0
    assert asyncio.run(choice.next_chunk(8)) == OLD
    assert choice.switches == []


def test_a_video_tries_again_where_no_replica_answers(tmp_path: Path) -> None:
    clock = Clock()
    answers: dict[Names, Any] = {NEW: NotReady("no replica")}
    choice, served = choice_of(tmp_path, clock, True, answers)
    served.change("detector", OLD, NEW)
    clock.now = 1.0
    assert asyncio.run(choice.next_chunk(8)) == OLD
    answers[NEW] = info_of(NEW)
    clock.now = 2.0
    assert asyncio.run(choice.next_chunk(8)) == NEW
    assert choice.switches == [{"frame": 8, "detector": info_of(NEW).weights}]


@pytest.mark.parametrize("answer", [info_of(NEW, {0: "person", 1: "dog"}), InvalidConfig("broken")])
def test_a_video_stays_where_the_new_detector_does_not_fit(
    tmp_path: Path, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    choice, served = choice_of(tmp_path, clock, True, {NEW: answer})
    served.change("detector", OLD, NEW)
    for clock.now in (1.0, 2.0, 3.0):
        assert asyncio.run(choice.next_chunk(8)) == OLD
    assert choice.switches == []
    assert caplog.text.count("stays on its detector") == 1
