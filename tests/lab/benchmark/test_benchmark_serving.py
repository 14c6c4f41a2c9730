"""The parts of `motserve benchmark serve`, without a service: times, metrics, processes, simulated networks, errors."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from service_checks import write_clip as render_clip

from motserve.config import Config, load_config
from motserve.errors import (
    InvalidConfig,
    InvalidData,
    MotserveError,
    NotFound,
    NotReady,
    Overloaded,
    WeightsUnavailable,
)
from motserve.lab.benchmark.serving.client import ServiceClient
from motserve.lab.benchmark.serving.clip import write_clip
from motserve.lab.benchmark.serving.contenders import BareLoop, Pipeline, UltralyticsTrack, in_one_process
from motserve.lab.benchmark.serving.deliveries import Deliveries, frame_ms, rate, rate_together
from motserve.lab.benchmark.serving.entrants import SERVICE, Clip, Entrant, ServiceMeter, Turn, take_turns
from motserve.lab.benchmark.serving.plot import draw
from motserve.lab.benchmark.serving.processes import ProcessSampler, ProcessUse, kind_of
from motserve.lab.benchmark.serving.rows import sum_up
from motserve.lab.benchmark.serving.service_metrics import ModelUse, Reading, model_use, parse, read_metrics, settled
from motserve.lab.benchmark.serving.simulated import (
    Recording,
    SimulatedDetector,
    SimulatedEmbedder,
    SimulatedNetworks,
    picture_key,
)
from motserve.lab.benchmark.serving.worker import Worker
from motserve.serving.addresses import free_port
from motserve.serving.inference.loading import load_model
from motserve.types import Detections, Image
from motserve.video import open_video

BUNDLED = load_config([{"detector": {"weights": "bundled", "image_size": 320}, "reid": {"weights": "bundled"}}])


def arrived(began: float, *times: float) -> Deliveries:
    return Deliveries(began, np.array(times))


# --- times ------------------------------------------------------------------------------------------------------------


def test_frames_that_arrive_together_share_the_time_since_the_arrival_before() -> None:
    # two frames at 1 s, the second part of a chunk a moment later, then four at 2 s
    video = arrived(0.0, 1.0, 1.0002, 2.0, 2.0, 2.0001, 2.0002, 3.0)
    assert frame_ms(video) == pytest.approx([250, 250, 250, 250, 1000])
    assert video.first_s == 1.0
    assert not len(frame_ms(arrived(0.0, 1.0, 1.0)))


def test_the_rate_of_all_videos_counts_from_the_first_start_to_the_last_frame() -> None:
    videos = [arrived(0.0, 1.0, 2.0), arrived(1.0, 3.0, 4.0)]
    assert rate(videos) == pytest.approx(4 / 4)
    assert rate_together(videos) is None
    videos = [arrived(0.0, 1.0, 2.0, 3.0), arrived(0.0, 2.0, 2.5, 4.0)]
    assert rate_together(videos) == pytest.approx(2 / 1)  # from 2 s to 3 s, one frame of each


# --- metrics ----------------------------------------------------------------------------------------------------------

METRICS = """
# HELP ray_motserve_model_items_total Images that the model processed.
# TYPE ray_motserve_model_items_total counter
ray_motserve_model_items_total{{role="detector",replica="a"}} {items}
ray_motserve_model_items_total{{role="detector",replica="b"}} 8.0
ray_motserve_model_passes_total{{role="detector",replica="a"}} {passes}
ray_motserve_model_slots_total{{role="detector",replica="a"}} {slots}
ray_motserve_model_busy_seconds_total{{role="detector",replica="a"}} 1.5
# TYPE ray_motserve_model_queue_seconds histogram
ray_motserve_model_queue_seconds_bucket{{role="detector",replica="a",le="0.01"}} {early}
ray_motserve_model_queue_seconds_bucket{{role="detector",replica="a",le="0.03"}} {all}
ray_motserve_model_queue_seconds_bucket{{role="detector",replica="a",le="+Inf"}} {all}
ray_motserve_frames_tracked_total {items}
ray_other_total 3.0
"""


def reading(items: float, passes: float = 0, slots: float = 0, early: float = 0, all_: float = 0) -> Reading:
    return parse(METRICS.format(items=items, passes=passes, slots=slots, early=early, all=all_))


def test_what_a_model_did_is_the_increase_between_two_readings() -> None:
    use = model_use(reading(0), reading(48, passes=4, slots=64, early=2, all_=6), "detector")
    assert (use.items, use.mean_batch, use.fill, use.busy_s) == (48, 12, 0.75, 0)
    assert use.wait_ms(0.5) == pytest.approx(10 + 20 * 1 / 4)
    assert use.wait_ms(1) == pytest.approx(30)
    assert (use + use).mean_batch == 12
    assert (use + use).wait_ms(0.5) == use.wait_ms(0.5)


def test_a_model_that_did_nothing_has_no_averages() -> None:
    use = model_use(reading(5), reading(5), "reid")
    assert (use.mean_batch, use.fill, use.wait_ms(0.5)) == (None, None, None)
    assert ModelUse(waits={0.1: 0.0, float("inf"): 4.0}).wait_ms(0.5) == pytest.approx(100)


def test_readings_are_taken_until_they_contain_the_frames() -> None:
    readings = iter([reading(8), reading(8), reading(24)])
    ticks = itertools.count()
    waits: list[float] = []
    found = settled(lambda: next(readings), reading(8), 16, 10, lambda: next(ticks), waits.append)
    assert found is not None
    assert found.total("frames_tracked_total") == 24
    assert len(waits) == 2
    assert settled(lambda: reading(8), reading(8), 16, 10, lambda: next(ticks), waits.append) is None


def test_what_is_no_metrics_is_refused() -> None:
    with pytest.raises(MotserveError, match="not in the format of Prometheus"):
        parse('ray_motserve_x{a="b" 1')
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}/metrics"
    with pytest.raises(MotserveError, match=f"cannot read the metrics of the service at {url}"):
        read_metrics(url)


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass
class FakeProcess:
    pid: int
    cpu: list[float]
    size: int
    gone: bool = False
    samples: int = 0

    @contextmanager
    def oneshot(self) -> Iterator[None]:
        if self.gone:
            raise psutil.NoSuchProcess(self.pid)
        yield

    def create_time(self) -> float:
        return 0.0

    def cpu_times(self) -> Any:
        self.samples += 1
        return SimpleNamespace(user=self.cpu[min(self.samples, len(self.cpu)) - 1], system=0.0)

    def memory_info(self) -> Any:
        return SimpleNamespace(rss=self.size + 5, shared=5)


def test_processes_are_added_up_by_kind_and_later_ones_count_from_their_start() -> None:
    detector, session, next_session = FakeProcess(1, [10, 12], 100), FakeProcess(2, [1, 4], 30), FakeProcess(3, [2], 40)
    listed: list[tuple[str, FakeProcess]] = [("detector", detector), ("ray", session)]
    sampler = ProcessSampler(lambda: listed)
    sampler.sample()
    listed[1:] = [("sessions", session), ("sessions", next_session), ("sessions", FakeProcess(4, [9], 1, gone=True))]
    sampler.sample()
    del listed[1:]  # their last sample counts
    sampler.sample()
    assert sampler.uses == [ProcessUse("detector", 1, 2, 100), ProcessUse("sessions", 2, 3 + 2, 70)]


def test_a_real_process_has_time_and_memory() -> None:
    this = psutil.Process()
    with ProcessSampler(lambda: [("this", this)], interval_s=0.01) as sampler:
        sum(range(10**6))
    (use,) = sampler.uses
    assert use.cpu_s > 0
    assert use.peak_bytes > 10**6


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["ray::ServeReplica:motserve:Embedder"], "embedder"),
        (["ray::SessionActor.run"], "sessions"),
        (["ray::ProxyActor"], "proxy"),
        (["python", "-c", "from motserve.video import limited_probe; limited_probe.main()"], "probe"),
        (["ray::IDLE"], "ray"),
        ([], "ray"),
    ],
)
def test_processes_of_the_service_are_told_apart(command: list[str], kind: str) -> None:
    assert kind_of(command) == kind


# --- simulated networks -----------------------------------------------------------------------------------------------


def picture(seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (270, 480, 3), np.uint8)


RECORDING = Recording(
    {0: "person"},
    {
        picture_key(picture(seed)): Detections(
            np.array([[seed, 0, 9, 9]], np.float32), np.array([0.9], np.float32), np.array([0])
        )
        for seed in (1, 2)
    },
)


def test_the_simulated_detector_repeats_its_recording_in_the_given_time() -> None:
    waits: list[float] = []
    detector = SimulatedDetector(RECORDING, 0.5, waits.append)
    first, black, second = detector.detect([picture(2), np.zeros((270, 480, 3), np.uint8), picture(1)])
    assert (first.boxes[0, 0], len(black), second.boxes[0, 0]) == (2, 0, 1)
    (wait,) = waits
    assert 0.3 < wait <= 0.5
    with pytest.raises(InvalidData, match="480x270 that was not recorded"):
        detector.detect([picture(3)])


def test_the_simulated_embedder_returns_unit_vectors_that_differ_by_crop() -> None:
    waits: list[float] = []
    embedder = SimulatedEmbedder((256, 128), 0.5, waits.append)
    crops = np.stack([picture(seed)[:256, :128] for seed in (1, 1, 2)] + [np.zeros((256, 128, 3), np.uint8)])
    vectors = embedder.embed(crops)
    assert vectors.shape == (4, embedder.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert np.array_equal(vectors[0], vectors[1])
    assert vectors[0] @ vectors[2] < 0.9
    assert len(waits) == 1


def test_replicas_run_the_networks_that_they_are_given() -> None:
    networks = SimulatedNetworks(RECORDING, 0.0, 0.0)
    detector = load_model("detector", Config(), ("any.pt",), networks)
    assert detector.info.weights["name"] == "simulated"
    assert detector.info.class_names == {0: "person"}
    (detections,) = detector.join(list(detector.run([picture(1)])))
    assert detections.boxes[0, 0] == 1
    embedder = load_model("reid", Config(), ("any",), networks)
    assert embedder.join(list(embedder.run([np.zeros((256, 128, 3), np.uint8)]))).shape[0] == 1


# --- the clip ---------------------------------------------------------------------------------------------------------


def test_a_clip_has_the_first_frames_and_begins_again_at_the_end(tmp_path: Path) -> None:
    source = render_clip(tmp_path / "source.mp4", 0.4)
    with open_video(source, BUNDLED.video) as video:
        count, rate_hz = len(list(video.frames())), video.info.rate_hz
    for frames in (count - 2, 2 * count + 1):
        write_clip(source, frames, BUNDLED, tmp_path / "clip.mp4")
        with open_video(tmp_path / "clip.mp4", BUNDLED.video) as video:
            times = [frame.timestamp for frame in video.frames()]
        assert len(times) == frames
        assert rate_hz is not None
        assert np.diff(times) == pytest.approx(1 / rate_hz, abs=1e-3)


def test_a_missing_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.mp4"):
        write_clip(tmp_path / "none.mp4", 1, BUNDLED, tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())


# --- the client -------------------------------------------------------------------------------------------------------

LINE = b'{"frame":0}\n'
Answer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answer) -> ServiceClient:
    return ServiceClient("http://service", httpx.MockTransport(answer))


def test_each_video_is_posted_read_and_deleted(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"video")
    numbers, deleted = itertools.count(), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            deleted.append(request.url.path)
            return httpx.Response(204)
        if request.url.path == "/readyz":
            return httpx.Response(200)
        assert b"video" in request.read()
        return httpx.Response(200, headers={"location": f"/v1/videos/{next(numbers)}"}, content=iter([LINE, 2 * LINE]))

    with client_of(answer) as client:
        client.check()
        videos = client.track_at_once(clip, 2, 3)
    assert [len(video.times) for video in videos] == [3, 3]
    assert all(video.first_s > 0 for video in videos)
    assert sorted(deleted) == ["/v1/videos/0", "/v1/videos/1"]


@pytest.mark.parametrize(
    ("response", "kind", "said"),
    [
        (httpx.Response(503, headers={"retry-after": "5"}, text="full"), Overloaded, "503 full; lower --sessions"),
        (httpx.Response(422, text="no video"), MotserveError, "refused the clip: 422 no video"),
        (httpx.Response(200, content=LINE), MotserveError, "the tracks of 1 frames of a clip of 3"),
        (
            httpx.Response(200, content=LINE + b'{"error":{"type":"X","message":"no memory"}}\n'),
            MotserveError,
            "failed to track the clip: no memory",
        ),
    ],
)
def test_a_video_that_is_not_tracked_is_an_error(
    response: httpx.Response, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"video")

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        return response

    with client_of(answer) as client, pytest.raises(kind, match=said):
        client.track_at_once(clip, 1, 3)


def test_a_service_that_does_not_answer_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"video")
    with ServiceClient(url) as client:
        with pytest.raises(NotReady, match=f"no service answers at {url}: .*; start it with motserve serve"):
            client.check()
        with pytest.raises(NotReady, match=f"the service at {url} stopped answering"):
            client.track_at_once(clip, 1, 1)
    starting = client_of(lambda _: httpx.Response(503, text="no replica"))
    with starting, pytest.raises(NotReady, match="is not ready: 503 no replica"):
        starting.check()


# --- contenders of one process ----------------------------------------------------------------------------------------


def test_contenders_are_chosen_by_name(tmp_path: Path) -> None:
    names = list(in_one_process(Config(), ["ultralytics-openvino"], tmp_path))
    assert names == ["loop", "loop-8", "ultralytics-openvino", "pipeline"]
    with pytest.raises(InvalidConfig, match="unknown peer nobody; known are ultralytics"):
        in_one_process(Config(), ["nobody"], tmp_path)


def test_what_a_contender_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="deepsort with this configuration compares appearance"):
        BareLoop(load_config([{"tracker": {"name": "deepsort"}}]), 1).load()
    with pytest.raises(InvalidConfig, match=r"Ultralytics cannot load bundled; give a \.pt file"):
        UltralyticsTrack(BUNDLED, tmp_path, openvino=False).load()


def test_an_error_in_the_process_of_a_contender_is_raised_here(tmp_path: Path) -> None:
    config = load_config([{"detector": {"weights": str(tmp_path / "none.pt")}}])
    with pytest.raises(WeightsUnavailable, match=r"none\.pt do not exist"):
        Worker("loop", BareLoop(config, 1))


def test_a_contender_whose_process_was_killed_is_named(tmp_path: Path) -> None:
    with Worker("pipeline", Pipeline(BUNDLED)) as worker:
        with pytest.raises(NotFound, match=r"none\.mp4"):
            worker.track(tmp_path / "none.mp4")
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(MotserveError, match="the process of pipeline ended with exit code -9"):
            worker.track(tmp_path / "none.mp4")


# --- turns and rows ---------------------------------------------------------------------------------------------------


@dataclass
class Listed(Entrant):
    name: str
    order: list[str]
    sessions: int = 1
    clips: list[str] = field(default_factory=list)

    def run(self, clip: Clip) -> Turn:
        self.order.append(self.name)
        self.clips.append(clip.path.name)
        return Turn([arrived(0.0, *np.arange(1, clip.frames + 1))])


def test_entrants_take_turns_after_a_warm_up() -> None:
    order: list[str] = []
    entrants = [Listed("a", order), Listed("b", order)]
    turns = take_turns(entrants, Clip(Path("clip"), 3), Clip(Path("short"), 1), 2, lambda *_: None)
    assert order == ["a", "b"] * 3
    assert entrants[0].clips == ["short", "clip", "clip"]
    assert [[len(turn.videos[0].times) for turn in own] for own in turns] == [[3, 3], [3, 3]]
    with pytest.raises(ValueError, match="at least one round"):
        take_turns(entrants, Clip(Path("clip"), 3), Clip(Path("short"), 1), 0, lambda *_: None)


def test_metrics_that_do_not_come_are_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motserve.lab.benchmark.serving.entrants._EXPORT_S", 0.0)
    videos = [arrived(0.0, 1.0, 2.0)]
    client: Any = SimpleNamespace(track_at_once=lambda *_: videos)
    warnings: list[str] = []
    frames = itertools.count(0, 2)
    meter = ServiceMeter(client, None, lambda: reading(next(frames)), warnings.append)
    assert meter.measure(Clip(Path("clip"), 2), 1).models is not None
    turn = meter.measure(Clip(Path("clip"), 99), 1)
    assert (turn.models, turn.stages, turn.videos) == (None, None, videos)
    (warning,) = warnings
    assert "99 frames" in warning


def test_a_row_sums_up_the_rounds() -> None:
    use = ModelUse(items=4, passes=2, slots=32, busy_s=0.2, waits={0.1: 2.0, float("inf"): 2.0})
    turns = [
        Turn(
            [arrived(0.0, 1.0, 2.0), arrived(0.0, 1.0, speed)],
            [ProcessUse("detector", 1, 0.4, 5_000_000)],
            {"detector": use, "reid": ModelUse()},
            {"decode": 0.8},
        )
        for speed in (2.0, 4.0)
    ]
    row = sum_up(SERVICE, 2, turns, limit_per_s=4.0)
    assert (row.frames, row.rates) == (4, [2.0, 1.0])
    assert row.frames_per_s == 1.5
    assert row.together_per_s == pytest.approx((2 + 1) / 2)
    assert row.limit_share == pytest.approx(1.5 / 4)
    assert (row.p50_ms, row.first_p50_s, row.first_max_s) == (1000, 1, 1)
    (detector,) = row.models
    assert (detector.images, detector.batch, detector.fill, detector.image_ms) == (4, 2, 0.125, 50)
    (process,) = row.processes
    assert (process.kind, process.cpu_ms, process.peak_mb) == ("detector", 100, 5)
    assert row.stages_ms == {"decode": 200}


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    rows = [
        sum_up(name, count, [Turn([arrived(0.0, 1.0, 2.0)] * count)]) for name, count in [("a$_b", 1), (SERVICE, 2)]
    ]
    for limit in (None, 100.0):
        draw(rows, tmp_path / "new" / "plot.png", limit)
        assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")
