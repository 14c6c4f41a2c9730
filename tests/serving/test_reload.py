"""New models without a restart: model cache, active models, reloads and detector switches, with fake handles."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fastapi.testclient import TestClient
from ray.exceptions import RayTaskError

from motserve.config import Config, change_config, load_config
from motserve.config.base import Role
from motserve.errors import Conflict, InvalidConfig, MotserveError, NotReady
from motserve.serving.api.deployment import build_http
from motserve.serving.api.service import Service
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import Backends, ModelInfo, Names
from motserve.serving.inference.model_cache import ModelCache
from motserve.serving.inference.reload import Reloader
from motserve.serving.session import detector_switch
from motserve.serving.session.detector_switch import DetectorSwitch
from motserve.serving.session.model_client import ModelClient
from motserve.serving.session.video_models import VideoModels
from motserve.types import Detections, Image

OLD: Names = ("models:/people/1", "bundled")
NEW: Names = ("models:/people/2", "bundled")
PERSON = {0: "person"}
BLACK: Image = np.zeros((2, 2, 3), np.uint8)


def info_of(names: Names, classes: dict[int, str] = PERSON, loaded: int = 0) -> ModelInfo:
    """The description of the model that a replica has loaded from `names[loaded]`."""
    name = names[loaded].removeprefix("models:/")
    fallback = "" if loaded == 0 else f"{names[0]} is not available"
    return ModelInfo({"name": name, "sha256": f"sha of {name}", "fallback": fallback}, classes)


def config_in(folder: Path, **reload: Any) -> Config:
    return load_config([{"serving": {"storage_dir": str(folder), "reload": reload}, "reid": {"policy": "on_demand"}}])


# --- the model cache --------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, names: Names) -> None:
        self.names = names


def test_concurrent_requests_for_a_model_wait_for_one_load() -> None:
    go, loads = threading.Event(), []

    def load(names: Names) -> Model:
        loads.append(names)
        assert go.wait(30)
        return Model(names)

    async def run() -> None:
        cache = ModelCache("detector", load, 2)
        requests = [asyncio.create_task(cache.get(OLD)) for _ in range(3)]
        await asyncio.sleep(0)
        requests[0].cancel()
        go.set()
        models = await asyncio.gather(*requests[1:])
        assert models[0] is models[1]
        assert loads == [OLD]
        with pytest.raises(asyncio.CancelledError):
            await requests[0]

    asyncio.run(run())


def test_a_load_does_not_block_loaded_models() -> None:
    go = threading.Event()

    def load(names: Names) -> Model:
        assert names == OLD or go.wait(30)
        return Model(names)

    async def run() -> None:
        cache = ModelCache("detector", load, 2)
        await cache.get(OLD)
        slow = asyncio.create_task(cache.get(NEW))
        await asyncio.sleep(0)
        assert (await asyncio.wait_for(cache.get(OLD), 10)).names == OLD
        go.set()
        assert (await slow).names == NEW

    asyncio.run(run())


def test_a_full_cache_evicts_the_least_recently_used_model() -> None:
    loads: list[Names] = []

    def load(names: Names) -> Model:
        loads.append(names)
        return Model(names)

    async def run() -> None:
        cache = ModelCache("detector", load, 2)
        a, b, c = ("a",), ("b",), ("c",)
        for names in (a, b, a, c, a, b):
            assert (await cache.get(names)).names == names
        assert loads == [a, b, c, b], "a was used again before c was loaded"
        in_use = await cache.get(a)
        reference = weakref.ref(in_use)
        await cache.get(c)
        await cache.get(b)
        assert reference() is in_use, "a request keeps the model it uses"
        del in_use
        gc.collect()
        assert reference() is None, "then its memory is freed"

    asyncio.run(run())


def test_a_load_that_failed_is_tried_again() -> None:
    outcomes: list[InvalidConfig | Model] = [InvalidConfig("broken"), Model(OLD)]

    def load(names: Names) -> Model:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run() -> None:
        cache = ModelCache("detector", load, 2)
        with pytest.raises(InvalidConfig):
            await cache.get(OLD)
        assert (await cache.get(OLD)).names == OLD

    asyncio.run(run())


# --- active models ----------------------------------------------------------------------------------------------------


def test_all_replicas_of_a_deployment_agree_on_the_active_models(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    first, second = ActiveModels(tmp_path, "a"), ActiveModels(tmp_path, "a")
    assert first.current("detector") is None
    assert first.names("detector", config, lambda *_: OLD) == OLD
    assert second.names("detector", config, lambda *_: pytest.fail("the row exists")) == OLD
    second.change("detector", OLD, NEW)
    assert first.current("detector") == NEW
    second.change("detector", OLD, ("late",))
    assert first.current("detector") == NEW, "another replica was faster"
    assert first.names("reid", config, lambda *_: ("bundled",)) == ("bundled",)
    assert ActiveModels(tmp_path, "b").names("detector", config, lambda *_: OLD) == OLD, (
        "another deployment has rows of its own"
    )
    assert first.current("detector") == NEW


def test_only_the_latest_deployments_are_kept(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    for number in range(105):
        ActiveModels(tmp_path, str(number)).names("detector", config, lambda *_: OLD)
    known = [ActiveModels(tmp_path, str(number)).current("detector") is not None for number in range(105)]
    assert known == [False] * 5 + [True] * 100


# --- reloading --------------------------------------------------------------------------------------------------------


class Handle:
    """A fake deployment handle with a fixed answer for each model; an exception is raised, None never answers."""

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
    """The versions that the registry resolves each role to."""

    def __init__(self, **names: Names) -> None:
        self.names = names
        self.calls = 0

    def __call__(self, role: Role, config: Config) -> Names:
        self.calls += 1
        return self.names[role]


def backends_of(handle: Any) -> Backends:
    return Backends(handle, handle, handle)


def reloader_of(folder: Path, pins: Pins, answers: dict[Names, Any], **reload: Any) -> tuple[Reloader, ActiveModels]:
    active_models = ActiveModels(folder, "a")
    known = {OLD: info_of(OLD), NEW: info_of(NEW), ("bundled",): info_of(("bundled",)), **answers}
    return Reloader(config_in(folder, **reload), active_models, backends_of(Handle(known)), pins), active_models


def test_a_reload_activates_only_the_promoted_model(tmp_path: Path) -> None:
    pins = Pins(detector=OLD, reid=("bundled",))
    reloader, active_models = reloader_of(tmp_path, pins, {})
    assert asyncio.run(reloader.info("detector", 1)).weights["name"] == "people/1"
    assert not any(change.changed for change in asyncio.run(reloader.reload()).values())
    pins.names["detector"] = NEW
    changes = asyncio.run(reloader.reload())
    assert (changes["detector"].changed, changes["reid"].changed) == (True, False)
    assert changes["detector"].before.weights["name"] == "people/1"
    assert changes["detector"].now.weights["name"] == "people/2"
    assert active_models.current("detector") == NEW


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (InvalidConfig("detector.classes: 'person' is no class of a.pt"), Conflict, "failed to load.*is no class"),
        (RuntimeError("size mismatch"), Conflict, "load, the active models are unchanged: RuntimeError: size mismatch"),
        (TimeoutError("the registry is slow"), Conflict, "failed to load.*TimeoutError: the registry is slow"),
        (info_of(NEW, loaded=1), Conflict, "its fallback bundled was loaded instead.*is not available"),
        (None, NotReady, "was not loaded within"),
    ],
)
def test_a_reload_that_fails_changes_nothing(
    tmp_path: Path, answer: Any, error: type[MotserveError], message: str
) -> None:  # fmt: skip
    pins = Pins(detector=OLD, reid=OLD)
    reloader, active_models = reloader_of(tmp_path, pins, {NEW: answer}, load_timeout_s=0.2)
    asyncio.run(reloader.reload())
    pins.names = {"detector": NEW, "reid": NEW}
    with pytest.raises(error, match=message):
        asyncio.run(reloader.reload())
    assert (active_models.current("detector"), active_models.current("reid")) == (OLD, OLD)


def test_a_reload_keeps_preferred_weights_when_only_their_fallback_was_promoted(tmp_path: Path) -> None:
    before, after = ("mine.pt", OLD[0]), ("mine.pt", NEW[0])
    pins = Pins(detector=before, reid=OLD)
    reloader, active_models = reloader_of(tmp_path, pins, {before: info_of(before), after: info_of(after)})
    asyncio.run(reloader.reload())
    pins.names["detector"] = after
    assert asyncio.run(reloader.reload())["detector"].now.weights["name"] == "mine.pt"
    assert active_models.current("detector") == after


def test_a_registry_that_is_down_changes_nothing(tmp_path: Path) -> None:
    unresolved = ("models:/people@production", "bundled")
    pins = Pins(detector=OLD, reid=OLD)
    reloader, active_models = reloader_of(tmp_path, pins, {unresolved: info_of(OLD)})
    asyncio.run(reloader.reload())
    pins.names = {"detector": unresolved, "reid": unresolved}
    with pytest.raises(NotReady, match="does not resolve detector models:/people@production"):
        asyncio.run(reloader.reload())
    assert active_models.current("detector") == OLD


def test_a_service_that_started_without_the_registry_reloads_once_it_answers(tmp_path: Path) -> None:
    unresolved = ("models:/people@production", "bundled")
    pins = Pins(detector=unresolved, reid=unresolved)
    reloader, _ = reloader_of(tmp_path, pins, {unresolved: info_of(OLD)})
    assert not any(change.changed for change in asyncio.run(reloader.reload()).values())
    pins.names["detector"] = NEW
    assert asyncio.run(reloader.reload())["detector"].now.weights["name"] == "people/2"


def test_polling_reloads_and_survives_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pins = Pins(detector=OLD, reid=OLD)
    reloader, active_models = reloader_of(tmp_path, pins, {("bad",): InvalidConfig("bad")}, poll_s=0.01)

    async def until(condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), 30)

    async def run() -> None:
        async with reloader.polling():
            await until(lambda: active_models.current("reid") == OLD)
            pins.names["detector"] = ("bad",)
            calls = pins.calls
            await until(lambda: pins.calls > calls + 10)
            pins.names["detector"] = NEW
            await until(lambda: active_models.current("detector") == NEW)
        calls = pins.calls
        await asyncio.sleep(0.05)
        assert pins.calls == calls, "polling ends with the application"

    asyncio.run(run())
    assert caplog.text.count("the active models are unchanged") == 1, "a repeated error is logged once"


def test_the_admin_routes_show_and_reload_the_active_models(tmp_path: Path) -> None:
    pins = Pins(detector=OLD, reid=("bundled",))
    handle: Any = Handle({OLD: info_of(OLD), NEW: info_of(NEW), ("bundled",): info_of(("bundled",))})
    service = Service(config_in(tmp_path), "a", backends_of(handle))
    service.reloader = Reloader(service.config, ActiveModels(tmp_path, "a"), service.backends, pins)
    with TestClient(build_http(service)) as client:
        assert client.get("/v1/admin/models").json()["detector"]["name"] == "people/1"
        pins.names["detector"] = NEW
        answer = client.post("/v1/admin/reload").json()
        assert answer["detector"]["changed"]
        assert answer["detector"]["now"] == {
            "name": "people/2", "sha256": "sha of people/2", "fallback": "", "backend": "",
        }  # fmt: skip
        assert not answer["reid"]["changed"]
        assert client.get("/readyz").json()["models"]["detector"]["name"] == "people/2"
        pins.names["detector"] = OLD
        handle.answers[OLD] = info_of(OLD, loaded=1)
        refused = client.post("/v1/admin/reload")
        assert refused.status_code == 409
        assert "its fallback bundled was loaded instead" in refused.json()["detail"]
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
def test_the_admin_routes_require_the_token(tmp_path: Path, header: str | None, status: int) -> None:
    config = change_config(config_in(tmp_path), {"serving": {"admin_token": TOKEN}})
    handle: Any = Handle({OLD: info_of(OLD), ("bundled",): info_of(("bundled",))})
    service = Service(config, "a", backends_of(handle))
    service.reloader = Reloader(
        config, ActiveModels(tmp_path, "a"), service.backends, Pins(detector=OLD, reid=("bundled",))
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
        secret = config.serving.admin_token
        assert secret is not None
        assert secret.get_secret_value() == token
        assert token not in f"{config!r} {config.model_dump_json()}"
    monkeypatch.setenv("MOTSERVE_SERVING__ADMIN_TOKEN", "short")
    with pytest.raises(InvalidConfig, match=r"serving\.admin_token"):
        load_config()


# --- detector switches of running videos ------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def switch_of(
    folder: Path, clock: Clock, follow: bool, answers: dict[Names, Any]
) -> tuple[DetectorSwitch, ActiveModels]:
    active_models = ActiveModels(folder, "a")
    active_models.names("detector", config_in(folder), lambda *_: OLD)
    return DetectorSwitch(
        active_models, OLD, info_of(OLD), Handle(answers).remote, follow, "video", clock
    ), active_models


def test_a_video_that_follows_reloads_switches_at_a_chunk(tmp_path: Path) -> None:
    clock = Clock()
    switch, active_models = switch_of(tmp_path, clock, True, {NEW: info_of(NEW)})

    async def run() -> None:
        assert await switch.next_chunk(8) == OLD
        active_models.change("detector", OLD, NEW)
        assert await switch.next_chunk(8) == OLD, "the active model is read once a second"
        clock.now = 1.0
        first, second = await asyncio.gather(switch.next_chunk(8), switch.next_chunk(5))
        assert (first, second) == (NEW, NEW), "the next chunk waits until the switch is decided"
        active_models.change("detector", NEW, OLD)
        clock.now = 2.0
        assert await switch.next_chunk(8) == NEW, "OLD is not available here"

    asyncio.run(run())
    assert switch.switches == [{"frame": 16, "detector": info_of(NEW).weights}]


def test_a_video_that_does_not_follow_reloads_keeps_its_detector(tmp_path: Path) -> None:
    clock = Clock()
    switch, active_models = switch_of(tmp_path, clock, False, {})
    active_models.change("detector", OLD, NEW)
    clock.now = 100.0
    assert asyncio.run(switch.next_chunk(8)) == OLD
    assert switch.switches == []


def test_a_video_tries_the_switch_again_if_no_replica_answers(tmp_path: Path) -> None:
    clock = Clock()
    answers: dict[Names, Any] = {NEW: NotReady("no replica")}
    switch, active_models = switch_of(tmp_path, clock, True, answers)
    active_models.change("detector", OLD, NEW)
    clock.now = 1.0
    assert asyncio.run(switch.next_chunk(8)) == OLD
    answers[NEW] = info_of(NEW)
    clock.now = 2.0
    assert asyncio.run(switch.next_chunk(8)) == NEW
    assert switch.switches == [{"frame": 8, "detector": info_of(NEW).weights}]


@pytest.mark.parametrize("answer", [info_of(NEW, {0: "person", 1: "dog"}), InvalidConfig("broken")])
def test_a_video_keeps_its_detector_if_the_new_one_does_not_fit(
    tmp_path: Path, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    switch, active_models = switch_of(tmp_path, clock, True, {NEW: answer})
    active_models.change("detector", OLD, NEW)
    for clock.now in (1.0, 2.0, 3.0):
        assert asyncio.run(switch.next_chunk(8)) == OLD
    assert switch.switches == []
    assert caplog.text.count("keeps its detector") == 1


def test_switches_count_frames_that_the_detector_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Names] = []

    class Client:
        async def info(self, role: Role, names: Names) -> ModelInfo:
            return info_of(names)

        async def detect(self, images: list[Image], names: Names) -> list[Detections]:
            asked.append(names)
            return [Detections.empty()] * len(images)

    monkeypatch.setattr(detector_switch, "_POLL_INTERVAL_S", 0.0)
    config = config_in(tmp_path, running_videos="switch")
    config = change_config(config, {"detector": {"every": 5, "weights": list(OLD)}, "reid": {"policy": "off"}})
    active_models = ActiveModels(tmp_path, "a")
    active_models.names("detector", config, lambda *_: OLD)
    models = VideoModels(cast(ModelClient, Client()), active_models, config, "video")

    async def run() -> None:
        await models.load(None)
        await models.detect([BLACK] * 8)  # frames 0 to 39
        active_models.change("detector", OLD, NEW)
        await models.detect([BLACK] * 8)

    asyncio.run(run())
    assert asked == [OLD, NEW]
    assert [switch["frame"] for switch in models.describe()["switches"]] == [40]
    assert models.checkpoint(35).names["detector"] == OLD
    assert models.checkpoint(36).names["detector"] == NEW, "the next frame that the detector gets is 40"
    resumed = VideoModels(cast(ModelClient, Client()), active_models, config, "video")

    async def resume() -> None:
        await resumed.load(None)
        resumed.resume(37, models.checkpoint(36))
        active_models.change("detector", NEW, OLD)
        await resumed.detect([BLACK])

    asyncio.run(resume())
    assert [switch["frame"] for switch in resumed.describe()["switches"]] == [40, 40]
