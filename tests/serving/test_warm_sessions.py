"""Session processes that wait for videos, without a cluster: both sides, and the launcher that gives them videos."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motserve.config import load_config
from motserve.config.serving import SessionConfig
from motserve.errors import Overloaded
from motserve.people.identity_store import IdentityStore
from motserve.serving.inference.backends import Backends
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.session.launcher import SessionLauncher, actor_name
from motserve.serving.session.nodes import waits_for_cpus
from motserve.serving.session.warm import WaitForVideo, WarmSessions, longest_wait_s
from motserve.serving.stores import ArtifactStore, Job, JobStore

LIMITS = SessionConfig(warm=2, lease_s=10, watch_s=2)
CONTEXT = RequestContext()


class FakeActor:
    """An actor that answers as the test says, and notes the videos it gets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: bool | None = True
        self.is_prepared = True
        self.kept = 0
        self.videos: list[tuple[str, int]] = []
        self.run = self

    def remote(self, job: Job, _: RequestContext) -> None:
        if not self.videos:
            self.videos.append((job.id, job.attempt))


class FakeActors:
    """A cluster of such actors."""

    def __init__(self) -> None:
        self.alive: dict[str, FakeActor] = {}
        self.killed: list[str] = []

    def start(self, name: str) -> FakeActor:
        if name in self.alive:
            raise ValueError(f"the name {name} is taken")
        self.alive[name] = FakeActor(name)
        return self.alive[name]

    def find(self, name: str) -> FakeActor | None:
        return self.alive.get(name)

    def prepare(self, actor: FakeActor) -> Callable[[], bool]:
        return lambda: actor.is_prepared

    def keep(self, actors: Sequence[FakeActor], timeout_s: float) -> list[bool | None]:
        for actor in actors:
            actor.kept += 1
        return [actor.answer if actor.name in self.alive else False for actor in actors]

    def kill(self, actor: FakeActor) -> None:
        self.killed.append(actor.name)
        self.alive.pop(actor.name, None)


class Pool:
    """Processes that wait, in a cluster whose clock and CPUs the test decides."""

    def __init__(self, limits: SessionConfig = LIMITS) -> None:
        self.now = 0.0
        self.free_cpus = 1.0
        self.waits_for_cpus = False
        self.actors = FakeActors()
        self.warm = WarmSessions(
            limits, self.actors, lambda cpus: self.free_cpus >= cpus, lambda _: self.waits_for_cpus, lambda: self.now
        )

    def fill(self) -> list[str]:
        """Check until nothing is missing; return the names of the processes."""
        for _ in range(4):
            self.warm.refill()
        return list(self.actors.alive)


@pytest.fixture
def pool() -> Pool:
    return Pool()


# --- the processes of an ingress replica ------------------------------------------------------------------------------


def test_processes_are_started_one_after_another_and_taken_ones_are_replaced(pool: Pool) -> None:
    assert pool.warm.take() is None
    pool.warm.refill()
    (first,) = pool.actors.alive.values()
    first.is_prepared = False
    pool.warm.refill()
    assert len(pool.actors.alive) == 1, "a second one was started before the first was ready"
    first.is_prepared = True
    assert len(pool.fill()) == 2
    taken = pool.warm.take()
    assert taken is not None
    assert taken.actor is first
    assert len(pool.fill()) == 3
    assert pool.actors.killed == []


def test_a_process_that_is_ready_goes_before_one_that_is_starting(pool: Pool) -> None:
    first, second = pool.fill()
    taken = pool.warm.take()
    assert taken is not None
    assert taken.name == first
    pool.warm.refill()
    third = list(pool.actors.alive)[-1]
    order = [taken and taken.name for taken in (pool.warm.take(), pool.warm.take(), pool.warm.take())]
    assert order == [second, third, None]


def test_without_warm_processes_nothing_is_asked_of_the_cluster() -> None:
    pool = Pool(SessionConfig(warm=0))
    pool.waits_for_cpus = True
    assert pool.fill() == []
    assert pool.warm.take() is None


@pytest.mark.parametrize("answer", [False, None], ids=["it has ended", "it hangs"])
def test_a_process_that_does_not_answer_gets_no_video(pool: Pool, answer: bool | None) -> None:
    first, second = pool.fill()
    pool.actors.alive[first].answer = answer
    taken = pool.warm.take()
    assert taken is not None
    assert taken.name == second
    assert pool.actors.killed == [first]


def test_processes_that_ended_or_hang_are_replaced(pool: Pool) -> None:
    ended, hanging = (pool.actors.alive[name] for name in pool.fill())
    ended.answer = False
    hanging.answer = None
    pool.warm.refill()
    assert pool.actors.killed == [ended.name], "a slow process has as long as it waits by itself"
    pool.now += longest_wait_s(LIMITS) + 1
    pool.warm.refill()
    assert pool.actors.killed == [ended.name, hanging.name]
    assert len(pool.fill()) == 2


def test_a_new_process_has_a_minute_for_its_first_answer(pool: Pool) -> None:
    pool.warm.refill()
    (starting,) = pool.actors.alive.values()
    starting.answer = None
    pool.now += 59
    pool.warm.refill()
    assert pool.actors.killed == []
    pool.now += 2
    pool.warm.refill()
    assert pool.actors.killed == [starting.name]


def test_no_process_takes_cpus_that_others_need(pool: Pool) -> None:
    pool.free_cpus = LIMITS.cpus / 2
    assert pool.fill() == []
    pool.free_cpus = 1.0
    names = pool.fill()
    assert len(names) == 2
    pool.waits_for_cpus = True
    pool.warm.refill()
    assert pool.actors.killed == names
    assert pool.fill() == []
    pool.waits_for_cpus = False
    assert len(pool.fill()) == 2


@pytest.mark.parametrize(
    ("wanted", "helped"),
    [
        ({"CPU": 0.5}, True),
        ({"CPU": 0.3}, True),
        ({"CPU": 0.6}, False),
        ({"CPU": 0.5, "GPU": 1.0}, False),
        ({"CPU": 0.3, "memory": 100.0}, True),
        ({"GPU": 1.0}, False),
        (None, False),
    ],
)
def test_only_what_their_cpus_help_ends_processes(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, float] | None, helped: bool
) -> None:
    """A second detector that the machine has no room for must not keep sessions from being started ahead."""
    nodes = [SimpleNamespace(available_resources=free) for free in ({"CPU": 0.3, "memory": 200.0}, {"GPU": 0.5})]
    requests = [] if wanted is None else [SimpleNamespace(request=SimpleNamespace(resources_bundle=wanted))]
    state = SimpleNamespace(pending_resource_requests=requests, node_states=nodes)
    monkeypatch.setattr("motserve.serving.session.nodes.get_cluster_resource_state", lambda _: state)
    monkeypatch.setattr("motserve.serving.session.nodes.global_worker", SimpleNamespace(gcs_client=None))
    assert waits_for_cpus(0.2) == helped


def test_nothing_is_started_ahead_while_videos_wait_for_their_processes(pool: Pool) -> None:
    pool.warm.videos_start = True
    assert pool.fill() == []
    pool.warm.videos_start = False
    assert len(pool.fill()) == 2


def test_all_processes_end_with_the_service(pool: Pool) -> None:
    taken_back = pool.fill()[0]
    process = pool.warm.take()
    assert process is not None
    pool.warm.close()
    pool.warm.put_back(process)
    assert process.name == taken_back
    assert pool.actors.alive == {}
    assert pool.fill() == []


# --- the process itself -----------------------------------------------------------------------------------------------


class Process:
    """A process that waits, whose clock and node the test decides."""

    def __init__(self) -> None:
        self.now = 0.0
        self.draining: bool | Exception = False
        self.ends = 0
        self.wait = WaitForVideo(10.0, self.is_draining, self.end, lambda: self.now)

    def is_draining(self) -> bool:
        if isinstance(self.draining, Exception):
            raise self.draining
        return self.draining

    def end(self) -> None:
        self.ends += 1


def test_a_process_that_no_one_asks_for_ends_by_itself() -> None:
    """Its ingress replica was killed, or belongs to an earlier deployment."""
    process = Process()
    process.now = 9.0
    assert process.wait.keep()
    process.now = 19.0
    assert process.wait.check()
    process.now = 19.1
    assert not process.wait.check()
    assert not process.wait.keep()
    assert not process.wait.end(), "it took a video although it is ending"
    assert not process.wait.check()
    assert process.ends == 1


def test_a_process_on_a_drained_node_ends(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.draining = RuntimeError("no control plane")
    assert process.wait.check()
    assert "whether the node is being drained is unknown: no control plane" in caplog.text
    process.draining = True
    assert not process.wait.check()
    assert process.ends == 1


def test_a_process_with_a_video_gets_no_other_and_stays() -> None:
    process = Process()
    assert process.wait.end()
    assert not process.wait.end()
    assert not process.wait.keep()
    process.now, process.draining = 1000.0, True
    assert not process.wait.check()
    assert process.ends == 0


def test_a_process_is_checked_until_it_ends() -> None:
    ended = threading.Event()
    wait = WaitForVideo(-1.0, lambda: False, ended.set)
    wait.start(0.001)
    assert ended.wait(30)


def test_a_process_waits_longer_than_its_ingress_replica_pauses() -> None:
    for watch_s in (0.3, 2.0, 60.0):
        assert longest_wait_s(SessionConfig(lease_s=10, watch_s=watch_s)) >= 3 * watch_s


# --- the launcher -----------------------------------------------------------------------------------------------------


class Service:
    """A launcher of a fake cluster, with real stores."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool, max_active: int = 8) -> None:
        self.now = 1_000_000.0
        settings = {"storage_dir": str(folder), "max_active_videos": max_active, "session": LIMITS.model_dump()}
        config = load_config([{"serving": settings}])
        self.jobs = JobStore(folder, lambda: self.now)
        no_handle: Any = None
        self.launcher = SessionLauncher(
            config,
            "deployment",
            Backends(no_handle, no_handle, no_handle),
            self.jobs,
            ArtifactStore(folder),
            IdentityStore(folder, 100),
            lambda: self.now,
            lambda: False,
            pool.warm,
        )
        monkeypatch.setattr(self.launcher, "_actors", pool.actors)

    def post(self, video_id: str) -> Job:
        self.launcher.start(Job(video_id, "a.mp4", "/a", 0.0), CONTEXT)
        return self.jobs.get(video_id)


def test_a_video_gets_a_waiting_process_and_every_replica_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    service, other = (Service(tmp_path, monkeypatch, one) for one in (pool, Pool()))
    monkeypatch.setattr(other.launcher, "_actors", pool.actors)
    name = pool.fill()[0]
    job = service.post("a")
    assert job.actor == actor_name(job) == name
    for launcher in (service.launcher, other.launcher):
        assert launcher.find(job) is pool.actors.alive[name]
    assert pool.actors.alive[name].videos == [("a", 0)]
    service.launcher.stop(job)
    assert pool.actors.killed == [name]


def test_a_video_has_a_process_of_its_own_if_none_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    service = Service(tmp_path, monkeypatch, pool)
    assert service.post("a").actor == ""
    assert pool.actors.alive["a.0"].videos == [("a", 0)]
    assert pool.fill() == ["a.0"], "processes are started ahead while the video has not begun"
    service.jobs.write("a", 0, began=True)
    service.launcher.restart_lost()
    assert len(pool.fill()) == 3


def test_a_process_that_dies_when_its_video_comes_is_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    service = Service(tmp_path, monkeypatch, pool)
    name = pool.fill()[0]
    keep = pool.actors.keep

    def answer_and_die(actors: Sequence[FakeActor], timeout_s: float) -> list[bool | None]:
        answers = keep(actors, timeout_s)
        del pool.actors.alive[name]
        return answers

    monkeypatch.setattr(pool.actors, "keep", answer_and_die)
    job = service.post("a")
    assert (job.actor, job.attempt) == ("", 0)
    assert pool.actors.alive["a.0"].videos == [("a", 0)]


def test_a_launcher_that_died_before_it_sent_the_video_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    name = pool.fill()[0]
    survivor = Service(tmp_path, monkeypatch, Pool())
    monkeypatch.setattr(survivor.launcher, "_actors", pool.actors)
    survivor.jobs.add(Job("a", "a.mp4", "/a", 0.0, heartbeat=survivor.now, actor=name), 8, 5)
    survivor.now += 6  # more than half a lease
    survivor.launcher.restart_lost()
    assert pool.actors.alive[name].videos == [("a", 0)]
    del pool.actors.alive[name]
    survivor.now += 11
    survivor.launcher.restart_lost()
    assert (survivor.jobs.get("a").attempt, survivor.jobs.get("a").actor) == (1, "")
    assert pool.actors.alive["a.1"].videos == [("a", 1)]


def test_a_lost_session_is_resumed_in_a_waiting_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    service = Service(tmp_path, monkeypatch, pool)
    first, second = pool.fill()
    service.post("a")
    service.jobs.write("a", 0, status="running", began=True)
    del pool.actors.alive[first]
    service.launcher.restart_lost()
    assert (service.jobs.get("a").attempt, service.jobs.get("a").actor) == (1, second)
    assert pool.actors.alive[second].videos == [("a", 1)]


def test_a_process_waits_on_if_its_video_is_refused_or_taken_by_another_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    service = Service(tmp_path, monkeypatch, pool, max_active=1)
    names = pool.fill()
    active = Job("a", "a.mp4", "/a", 0.0, status="running", heartbeat=service.now - 11, began=True)
    service.jobs.add(active, 8, 5)
    with pytest.raises(Overloaded):
        service.post("b")
    assert service.jobs.take_over(active) is not None
    monkeypatch.setattr(service.jobs, "active", lambda: [active])  # as it was read before
    service.launcher.restart_lost()
    assert service.jobs.get("a").attempt == 1
    assert sorted(pool.fill()) == sorted(names)
    assert all(actor.videos == [] for actor in pool.actors.alive.values())
