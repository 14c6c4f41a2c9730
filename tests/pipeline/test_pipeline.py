from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from motserve.config import Config, change_config, load_config
from motserve.errors import InvalidVideo
from motserve.pipeline.loop import track_frames
from motserve.pipeline.observer import PipelineStats, _NullObserver
from motserve.reid import crops
from motserve.reid.crops import cut_crops
from motserve.types import INTERPOLATED, NO_DETECTION, Detections, EmbeddedCrops, Frame, Image, TrackedFrame, Tracks

RATE_HZ = 10


def configure(
    chunk_size: int = 4, window: int = 2, policy: str = "on_demand", first_chunk_size: int | None = None
) -> Config:
    return load_config(
        [
            {
                "pipeline": {
                    "chunk_size": chunk_size,
                    "first_chunk_size": first_chunk_size or chunk_size,
                    "window": window,
                },
                "tracker": {"lost_buffer_s": 1},
                # all embeddings are equal here
                "reid": {"policy": policy, "decision": {"margin": 0}},
            }
        ]
    )


def video(count: int, error: Exception | None = None) -> Iterator[Frame]:
    """Frames that carry their index in the first pixel."""
    for index in range(count):
        yield Frame(index, index / RATE_HZ, np.full((120, 320, 3), index, np.uint8))
    if error is not None:
        raise error


def people_in(image: Image) -> Detections:
    """Two people who walk; the second is absent for longer than the tracker's buffer."""
    index = int(image[0, 0, 0])
    rows = [(10 + index, 5, 50 + index, 105)]
    if not 20 <= index < 40:
        rows.append((250 - index, 5, 290 - index, 105))
    return Detections(np.array(rows, np.float32), np.full(len(rows), 0.9, np.float32), np.zeros(len(rows), np.int64))


async def detect(images: list[Image]) -> list[Detections]:
    return [people_in(image) for image in images]


class Embedder:
    """Gives everyone the same embedding."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    async def __call__(self, crops: np.ndarray) -> np.ndarray:
        self.shapes.append(crops.shape)
        return np.tile(np.array([[0.6, 0.8]], np.float32), (len(crops), 1))


async def collect(frames: Iterator[Frame], config: Config, **parts: Any) -> tuple[list[TrackedFrame], PipelineStats]:
    stats = PipelineStats()
    chunks = track_frames(
        frames,
        parts.get("detect", detect),
        parts.get("embed", Embedder()),
        config,
        stats,
        on_embedded=parts.get("on_embedded"),
    )
    return [frame async for chunk in chunks for frame in chunk], stats


def rows(tracked: list[TrackedFrame]) -> list[tuple[object, ...]]:
    return [
        (f.index, f.timestamp, f.tracks.ids.tolist(), f.identities.tolist(), f.tracks.boxes.tolist()) for f in tracked
    ]


def test_every_frame_is_returned_in_order_and_counted() -> None:
    tracked, stats = asyncio.run(collect(video(50), configure()))
    assert [frame.index for frame in tracked] == list(range(50))
    assert [frame.timestamp for frame in tracked] == [index / RATE_HZ for index in range(50)]
    assert stats.frames == 50
    assert stats.identities == 2
    assert stats.links == 1
    assert tracked[-1].tracks.ids.max() > 2
    assert set(tracked[-1].identities.tolist()) == {1, 2}


def test_an_empty_video_has_no_result() -> None:
    tracked, stats = asyncio.run(collect(video(0), configure()))
    assert tracked == []
    assert stats == PipelineStats()


@pytest.mark.parametrize(("chunk_size", "window"), [(1, 1), (1, 4), (7, 2), (25, 1), (50, 3), (64, 16)])
def test_the_result_does_not_depend_on_chunks_and_window(chunk_size: int, window: int) -> None:
    reference, expected = asyncio.run(collect(video(50), configure(8, 2)))
    tracked, stats = asyncio.run(collect(video(50), configure(chunk_size, window)))
    assert rows(tracked) == rows(reference)
    assert stats == expected


def test_chunks_have_the_size_configured() -> None:
    sizes = []

    async def counting(images: list[Image]) -> list[Detections]:
        sizes.append(len(images))
        return await detect(images)

    asyncio.run(collect(video(10), configure(chunk_size=4), detect=counting))
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize(
    ("first", "size", "expected"), [(1, 5, [1, 2, 4, 5, 5, 3]), (3, 8, [3, 6, 8, 3]), (9, 8, [8, 8, 4])]
)
def test_chunks_grow_from_the_first_one_without_changing_the_result(first: int, size: int, expected: list[int]) -> None:
    sizes = []

    async def counting(images: list[Image]) -> list[Detections]:
        sizes.append(len(images))
        return await detect(images)

    config = configure(size, first_chunk_size=first)
    tracked, _ = asyncio.run(collect(video(20), config, detect=counting))
    assert sizes == expected
    assert rows(tracked) == rows(asyncio.run(collect(video(20), configure(size)))[0])


@pytest.mark.parametrize(
    ("chunk_size", "max_frames", "sizes"), [(4, 99, [4, 4, 4, 4, 1]), (4, 2, [2] * 8 + [1]), (1, 1, [1] * 17)]
)
def test_the_detector_gets_each_third_frame_and_the_others_have_boxes_between(
    chunk_size: int, max_frames: float, sizes: list[int]
) -> None:
    asked: list[list[int]] = []

    async def noting(images: list[Image]) -> list[Detections]:
        asked.append([int(image[0, 0, 0]) for image in images])
        return await detect(images)

    max_chunk_bytes = max_frames * 120 * 320 * 3
    config = change_config(
        configure(chunk_size), {"detector": {"every": 3}, "pipeline": {"max_chunk_bytes": max_chunk_bytes}}
    )
    tracked, stats = asyncio.run(collect(video(50), config, detect=noting))
    assert [index for indices in asked for index in indices] == list(range(0, 50, 3))
    assert [len(indices) for indices in asked] == sizes
    assert [frame.index for frame in tracked] == list(range(50))
    assert (stats.frames, stats.identities) == (50, 2)
    for frame in tracked[6:18]:
        expected = people_in(np.full((1, 1, 3), frame.index, np.uint8)).boxes
        np.testing.assert_allclose(np.sort(frame.boxes, axis=0), np.sort(expected, axis=0), atol=1)
        assert frame.tracks.detections.tolist() == ([0, 1] if frame.index % 3 == 0 else [INTERPOLATED] * 2)
    assert tracked[49].tracks.detections.tolist() == [NO_DETECTION] * 2


def test_pictures_that_the_caller_holds_count_for_the_size_of_chunks() -> None:
    sizes = []

    async def counting(images: list[Image]) -> list[Detections]:
        sizes.append(len(images))
        return await detect(images)

    async def run() -> list[int]:
        changes = {"detector": {"every": 2}, "pipeline": {"max_chunk_bytes": 4 * 120 * 320 * 3}}
        config = change_config(configure(8), changes)
        chunks = track_frames(video(10), counting, Embedder(), config, PipelineStats(), keeps_pictures=True)
        return [frame.index async for chunk in chunks for frame in chunk]

    assert asyncio.run(run()) == list(range(10))
    assert sizes == [2, 2, 1]


def test_frames_that_a_video_lacks_do_not_count() -> None:
    async def none(images: list[Image]) -> list[Detections]:
        asked.extend(int(image[0, 0, 0]) for image in images)
        return [Detections.empty()] * len(images)

    asked: list[int] = []
    frames = [frame for frame in video(12) if frame.index in (0, 1, 3, 5, 7, 9, 11)]
    tracked, _ = asyncio.run(collect(iter(frames), change_config(configure(), {"detector": {"every": 2}}), detect=none))
    assert [frame.index for frame in tracked] == [0, 1, 3, 5, 7, 9, 11]
    assert asked == [0, 3, 7, 11]


@pytest.mark.parametrize(("frames", "expected"), [(2.9, [2, 2, 1]), (1.0, [1] * 5), (0.1, [1] * 5), (9, [4, 1])])
def test_chunks_of_large_frames_are_smaller(frames: float, expected: list[int]) -> None:
    sizes = []

    async def counting(images: list[Image]) -> list[Detections]:
        sizes.append(len(images))
        return await detect(images)

    config = change_config(configure(4), {"pipeline": {"max_chunk_bytes": int(frames * 120 * 320 * 3)}})
    tracked, _ = asyncio.run(collect(video(5), config, detect=counting))
    assert sizes == expected
    assert rows(tracked) == rows(asyncio.run(collect(video(5), configure(4)))[0])


class WaitingDetector:
    """Answers a chunk only when the window is full of requests."""

    def __init__(self, window: int, chunks: int) -> None:
        self.window = window
        self.started = [asyncio.Event() for _ in range(chunks)]
        self.calls = self.in_flight = self.most = 0

    async def __call__(self, images: list[Image]) -> list[Detections]:
        call = self.calls
        self.calls += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        self.started[call].set()
        await self.started[min(call + self.window, len(self.started)) - 1].wait()
        self.in_flight -= 1
        return await detect(images)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_the_window_is_filled_and_never_exceeded(window: int) -> None:
    async def run() -> WaitingDetector:
        detector = WaitingDetector(window, chunks=12)
        tracked, _ = await collect(video(24), configure(2, window), detect=detector)
        assert len(tracked) == 24
        return detector

    assert asyncio.run(asyncio.wait_for(run(), 60)).most == window


def test_decoding_waits_for_a_slow_consumer() -> None:
    decoded = 0

    def counted() -> Iterator[Frame]:
        nonlocal decoded
        for frame in video(100):
            decoded += 1
            yield frame

    async def run() -> None:
        async with aclosing(track_frames(counted(), detect, Embedder(), configure(5, 2), PipelineStats())) as chunks:
            for taken in (1, 2):
                await anext(chunks)
                while decoded < 5 * (taken + 2):  # it goes on while the consumer has a chunk
                    await asyncio.sleep(0)
                for _ in range(1000):
                    await asyncio.sleep(0)
                assert decoded == 5 * (taken + 2)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_every_chunk_has_an_end_also_where_the_consumer_leaves() -> None:
    class Observer(_NullObserver):
        begun = ended_chunks = 0

        def chunk(self) -> Observer:
            self.begun += 1
            return self

        def ended(self, frames: int) -> None:
            self.ended_chunks += 1

    async def run() -> Observer:
        observer = Observer()
        chunks = track_frames(video(100), detect, Embedder(), configure(4, 2), PipelineStats(), observer=observer)
        async with aclosing(chunks):
            await anext(chunks)
        return observer

    observer = asyncio.run(asyncio.wait_for(run(), 60))
    assert observer.begun == observer.ended_chunks > 1


def test_the_next_chunks_are_decoded_and_detected_while_one_is_tracked() -> None:
    detected: list[int] = []
    enough = asyncio.Event()

    async def counting(images: list[Image]) -> list[Detections]:
        detected.append(int(images[0][0, 0, 0]))
        if len(detected) == 3:
            enough.set()
        return await detect(images)

    class WaitingEmbedder(Embedder):
        async def __call__(self, crops: np.ndarray) -> np.ndarray:
            await enough.wait()
            return await super().__call__(crops)

    run = collect(video(50), configure(4, 2, "always"), detect=counting, embed=WaitingEmbedder())
    tracked, _ = asyncio.run(asyncio.wait_for(run, 60))
    assert len(tracked) == 50
    assert detected == sorted(detected)


@pytest.mark.parametrize("good", [0, 3, 4, 9, 16])
def test_a_decoding_error_comes_after_the_frames_before_it(good: int) -> None:
    async def run() -> list[int]:
        indices: list[int] = []
        broken = video(good, InvalidVideo("cut off"))

        async def consume() -> None:
            async for chunk in track_frames(broken, detect, Embedder(), configure(4, 2), PipelineStats()):
                indices.extend(frame.index for frame in chunk)

        with pytest.raises(InvalidVideo, match="cut off"):
            await consume()
        return indices

    assert asyncio.run(run()) == list(range(good))


class HangingDetector:
    """Answers some chunks, then hangs, and counts cancelled requests."""

    def __init__(self, answered: int) -> None:
        self.answered = answered
        self.hanging = asyncio.Semaphore(0)
        self.started = self.cancelled = 0

    async def __call__(self, images: list[Image]) -> list[Detections]:
        self.started += 1
        if self.started <= self.answered:
            return await detect(images)
        self.hanging.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("the event is never set")


def test_a_cancelled_consumer_cancels_its_requests() -> None:
    async def run() -> HangingDetector:
        detector = HangingDetector(answered=1)
        consumer = asyncio.create_task(collect(video(100), configure(4, 3), detect=detector))
        for _ in range(3):
            await detector.hanging.acquire()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        return detector

    detector = asyncio.run(asyncio.wait_for(run(), 60))
    assert (detector.started, detector.cancelled) == (4, 3)


def test_a_consumer_that_closes_the_stream_cancels_its_requests() -> None:
    async def run() -> HangingDetector:
        detector = HangingDetector(answered=1)
        chunks = track_frames(video(100), detector, Embedder(), configure(4, 2), PipelineStats())
        async with aclosing(chunks):
            assert len(await anext(chunks)) == 4
            await detector.hanging.acquire()
        return detector

    detector = asyncio.run(asyncio.wait_for(run(), 60))
    assert detector.started - 1 == detector.cancelled == 1


def test_a_detector_that_fails_ends_the_video_and_the_other_requests() -> None:
    started, cancelled = [], []

    async def failing(images: list[Image]) -> list[Detections]:
        started.append(int(images[0][0, 0, 0]))
        if images[0][0, 0, 0] == 0:
            raise ValueError("out of memory")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(int(images[0][0, 0, 0]))
            raise
        return []

    with pytest.raises(ValueError, match="out of memory"):
        asyncio.run(collect(video(100), configure(4, 3), detect=failing))
    assert cancelled == started[1:]


def test_a_detector_that_omits_a_frame_is_an_error() -> None:
    async def forgetful(images: list[Image]) -> list[Detections]:
        return (await detect(images))[:-1]

    with pytest.raises(RuntimeError, match="answered for 3 of 4 pictures"):
        asyncio.run(collect(video(8), configure(), detect=forgetful))


def test_people_are_embedded_only_where_planned() -> None:
    async def unwanted(crops: np.ndarray) -> np.ndarray:
        raise AssertionError("no embedding was requested")

    _, stats = asyncio.run(collect(video(50), configure(policy="off"), embed=unwanted))
    assert stats.embeddings == 0
    embedder = Embedder()
    tracked, stats = asyncio.run(collect(video(50), configure(), embed=embedder))
    assert 0 < stats.embeddings == sum(shape[0] for shape in embedder.shapes) < sum(len(f.tracks) for f in tracked) / 3
    assert {shape[1:] for shape in embedder.shapes} == {(256, 128, 3)}
    embedder = Embedder()
    tracked, stats = asyncio.run(collect(video(50), configure(policy="always"), embed=embedder))
    assert stats.embeddings == sum(len(frame.tracks) for frame in tracked)


def test_the_callback_gets_every_embedded_person() -> None:
    notified: list[EmbeddedCrops] = []
    embed = Embedder()
    tracked, stats = asyncio.run(collect(video(50), configure(), embed=embed, on_embedded=notified.append))
    assert [embedded.crops.shape for embedded in notified] == embed.shapes
    assert sum(len(embedded.identities) for embedded in notified) == stats.embeddings > 0
    for embedded in notified:
        frame = tracked[round(embedded.timestamp * RATE_HZ)]
        assert embedded.timestamp == frame.timestamp
        assert len(embedded.embeddings) == len(embedded.identities) == len(set(embedded.identities.tolist()))
        for identity, box, score in zip(embedded.identities, embedded.boxes, embedded.scores, strict=True):
            (row,) = np.flatnonzero(frame.identities == identity)
            assert box.tolist() == frame.tracks.boxes[row].tolist()
            assert score == frame.tracks.scores[row]
        assert (embedded.crops == frame.index).all(), "the crops are of another frame"
    assert rows(tracked) == rows(asyncio.run(collect(video(50), configure()))[0])


def test_crops_are_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[int] = []

    def counting(image: Image, boxes: np.ndarray, *size: int) -> np.ndarray:
        cut.append(len(boxes))
        return cut_crops(image, boxes, *size)

    monkeypatch.setattr(crops, "cut_crops", counting)
    notified: list[EmbeddedCrops] = []
    _, stats = asyncio.run(collect(video(50), configure(policy="always"), on_embedded=notified.append))
    assert sum(cut) == stats.embeddings == sum(len(item.identities) for item in notified) > 0


def test_the_callback_gets_the_crops_that_the_linker_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(tracks: Tracks, *_: Any) -> np.ndarray:
        return np.asarray(tracks.boxes[:, 0] < 100)

    broken = 0
    pictures = {}
    for frame in video(50):
        picture = np.broadcast_to(np.arange(320)[:, None] % 256, (120, 320, 3)).astype(np.uint8)
        picture[0, 0, 0] = frame.index
        pictures[frame.timestamp] = Frame(frame.index, frame.timestamp, picture)

    async def embed(cropped: np.ndarray) -> np.ndarray:
        nonlocal broken
        embeddings = np.tile(np.array([[0.6, 0.8]], np.float32), (len(cropped), 1))
        if len(cropped) == 2 and cropped[:, 0, 0, 0].min() % 3 == 0:
            embeddings[cropped[:, 0, 0, 0].argmax()] = np.nan
            broken += 1
        return embeddings

    monkeypatch.setattr("motserve.reid.linker.trusted", judge)
    notified: list[EmbeddedCrops] = []
    config = configure(policy="always")
    asyncio.run(collect(iter(pictures.values()), config, embed=embed, on_embedded=notified.append))
    assert broken > 5
    for item in notified:
        image = pictures[item.timestamp].image
        expected = cut_crops(image, item.boxes, config.reid.crop_height, config.reid.crop_width)
        np.testing.assert_array_equal(item.crops, expected)
    left = np.concatenate([item.boxes[:, 0] for item in notified])
    assert len(left) >= 50
    assert left.max() < 100
    assert all(len(item.crops) == len(item.embeddings) == len(item.identities) for item in notified)
    assert np.isfinite(np.concatenate([item.embeddings for item in notified])).all()


def test_without_embeddings_the_callback_is_not_called() -> None:
    notified: list[EmbeddedCrops] = []
    asyncio.run(collect(video(20), configure(policy="off"), on_embedded=notified.append))
    assert notified == []


def test_a_local_network_may_cut_crops_itself() -> None:
    calls: list[tuple[int, int]] = []

    async def embed_boxes(image: Image, boxes: np.ndarray) -> np.ndarray:
        calls.append((int(image[0, 0, 0]), len(boxes)))
        return np.tile(np.array([[0.6, 0.8]], np.float32), (len(boxes), 1))

    async def run() -> list[TrackedFrame]:
        chunks = track_frames(video(50), detect, refuse, configure(), stats, embed_boxes=embed_boxes)
        return [frame async for chunk in chunks for frame in chunk]

    async def refuse(crops: np.ndarray) -> np.ndarray:
        raise AssertionError("crops were cut although embed_boxes is given")

    stats = PipelineStats()
    assert rows(asyncio.run(run())) == rows(asyncio.run(collect(video(50), configure()))[0])
    assert sum(count for _, count in calls) == stats.embeddings > 0


def test_held_back_frames_come_before_the_error_of_a_network() -> None:
    calls = 0

    async def failing(images: list[Image]) -> list[Detections]:
        nonlocal calls
        calls += 1
        if calls == 12:  # a person has just returned and is undecided
            raise RuntimeError("the detector broke")
        return await detect(images)

    indices: list[int] = []

    async def run() -> None:
        config = change_config(configure(), {"reid": {"decision": {"num_embeddings": 9, "wait_s": 5}}})
        async for chunk in track_frames(video(50), failing, Embedder(), config, PipelineStats()):
            indices.extend(frame.index for frame in chunk)

    with pytest.raises(RuntimeError, match="the detector broke"):
        asyncio.run(run())
    assert indices == list(range(44))


def test_an_embedding_that_is_not_finite_is_ignored() -> None:
    class Overflowing(Embedder):
        async def __call__(self, crops: np.ndarray) -> np.ndarray:
            embeddings = await super().__call__(crops)
            if len(self.shapes) == 1:
                embeddings[0] = np.nan
            return embeddings

    tracked, stats = asyncio.run(collect(video(50), configure(), embed=Overflowing()))
    assert stats.links == 1
    assert set(tracked[-1].identities.tolist()) == {1, 2}
