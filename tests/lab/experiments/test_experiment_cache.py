from __future__ import annotations

import asyncio
import io
import logging
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import motserve
from motserve.base import DetectorBase
from motserve.config import Config, DetectorConfig, VideoConfig, change_config, load_config
from motserve.detection import build_detector
from motserve.errors import InvalidVideo
from motserve.lab.experiments.appearance import Appearance
from motserve.lab.experiments.cache import Cache, open_cache
from motserve.lab.experiments.detections import DetectedVideo, detect_video
from motserve.lab.experiments.footage import Footage
from motserve.lab.experiments.models import Models
from motserve.lab.scenes import SceneConfig, render
from motserve.models.weights import Weights
from motserve.pipeline.detections.key import _code_checksum
from motserve.reid import build_embedder
from motserve.reid.crops import cut_crops
from motserve.reid.embedder import CropEmbedder
from motserve.types import Detections, FloatArray, Image
from motserve.video import VideoWriter, open_video

FRAMES = 12
BOXES = np.array([[3.5, 2, 40, 80], [-5, 10, 30.25, 111], [100, 5, 150, 70]], np.float32)
CHANGES: Mapping[str, object] = {
    "region": (0.0, 0.5, 1.0, 1.0),
    "architecture": "yolov8n",
    "classes": "all",
    "confidence": 0.2,
    "nms_iou": 0.5,
    "image_size": 128,
    "max_detections": 7,
    "device": "cuda",
    "backend": "torch",
    "half": False,
}
"""Another value of every detector setting except the weights."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of people walking."""
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    scene = SceneConfig(seed=5, width=192, height=112, rate_hz=6, duration_s=2)
    with VideoWriter(path, 192, 112, VideoConfig(), rate_hz=6) as writer:
        for number, frame in enumerate(render(scene)):
            writer.write(frame.frame.image, number / 6)
    return path


@pytest.fixture(scope="module")
def networks(untrained_detector: Path, untrained_embedder: Path) -> Config:
    """Small untrained networks; the detector returns people everywhere."""
    return load_config(
        [
            {
                "detector": {"weights": str(untrained_detector), "image_size": 96, "max_detections": 6},
                "reid": {"weights": str(untrained_embedder), "crop_height": 64, "crop_width": 32},
                "evaluation": {"detect_batch": 5},
            },
            {"detector": {"device": "cpu", "backend": "torch"}, "reid": {"device": "cpu", "backend": "torch"}},
        ]
    )


@pytest.fixture
def files(tmp_path: Path) -> Config:
    """Weights files with arbitrary content, from which only checksums are computed."""
    for name in ("detector.pt", "reid.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    return load_config(
        [
            {
                "cache_dir": str(tmp_path / "cache"),
                "detector": {"weights": str(tmp_path / "detector.pt")},
                "reid": {"weights": str(tmp_path / "reid.onnx")},
            }
        ]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of seven grey pictures without a frame rate."""
    path = tmp_path / "pictures"
    path.mkdir()
    for number in range(7):
        cv2.imwrite(str(path / f"{number}.png"), np.full((32, 48, 3), 10 * number, np.uint8))
    return path


class GreyDetector(DetectorBase):
    """Detects one person in each picture; the width of the box is the brightness."""

    class_names: Mapping[int, str] = {0: "person"}

    def __init__(self, stops_after: int = 1_000_000, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.pictures = 0
        self._stops_after = stops_after
        self._error = error

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.pictures += len(images)
        if self.pictures > self._stops_after:
            raise self._error
        boxes = [np.array([[0, 0, 1 + image[0, 0, 0], 9]], np.float32) for image in images]
        return [Detections(box, np.full(1, 0.5, np.float32), np.zeros(1, np.int64)) for box in boxes]


def use_detector(detector: DetectorBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motserve.lab.experiments.models.build_detector", lambda *_: detector)


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("the cache has the answer")

    for name in names:
        monkeypatch.setattr(f"motserve.lab.experiments.{name}", fail)


def detect(path: Path, config: Config, cache: Cache) -> DetectedVideo:
    return detect_video("walk", Footage(path, config.video), Models(config), cache)


def assert_equal(found: DetectedVideo, expected: DetectedVideo) -> None:
    """Compare detections bit by bit."""
    assert bits(found.detections) == bits(expected.detections)
    assert found.timestamps.tobytes() == expected.timestamps.tobytes()
    assert found.timestamps.dtype == np.float64
    for name in ("name", "rate_hz", "class_names", "source", "first"):
        assert getattr(found, name) == getattr(expected, name)


def bits(detections: Sequence[Detections]) -> list[tuple[object, ...]]:
    arrays = ((seen.boxes, seen.scores, seen.classes) for seen in detections)
    return [tuple((a.shape, a.dtype, a.tobytes()) for a in parts) for parts in arrays]


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- detections -------------------------------------------------------------------------------------------------------


def test_a_cached_video_needs_neither_detector_nor_decoding(
    clip: Path, networks: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    made = detect(clip, networks, cache)
    weights = Weights("", Path(networks.detector.weights[0]), "", "")
    detector = build_detector(networks.detector, weights)
    with open_video(clip, networks.video) as video:
        frames = list(video.frames())
    batches = [frames[start : start + 5] for start in range(0, FRAMES, 5)]
    expected = [seen for batch in batches for seen in detector.detect([frame.image for frame in batch])]
    assert bits(made.detections) == bits(expected)
    assert sum(map(len, expected)) > FRAMES
    assert made.timestamps.tolist() == [frame.timestamp for frame in frames]
    assert (made.rate_hz, made.class_names) == (6, {0: "person"})

    forbid(monkeypatch, "models.build_detector", "footage.open_video")
    assert_equal(detect(clip, networks, cache), made)


def test_progress_is_called_for_each_batch_and_not_for_cached_results(
    folder: Path, files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_detector(GreyDetector(), monkeypatch)
    config = change_config(files, {"evaluation": {"detect_batch": 3}})
    reports: list[tuple[str, int, int | None]] = []
    for expected in ([("walk", 3, 7), ("walk", 6, 7), ("walk", 7, 7)], []):
        reports.clear()
        detect_video(
            "walk", Footage(folder, config.video), Models(config), Cache(tmp_path), lambda *it: reports.append(it)
        )
        assert reports == expected


def test_the_cache_is_in_the_configured_folder(
    folder: Path, files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_detector(GreyDetector(), monkeypatch)
    detect(folder, files, open_cache(files))
    (name,) = content(tmp_path / "cache")
    assert name.startswith("experiments/detections/")


def test_every_setting_of_the_detector_is_in_the_key(files: Config) -> None:
    keys = [Models(files).detection_key()]
    assert {*CHANGES, "weights", "every"} == set(DetectorConfig.model_fields)
    for name, value in CHANGES.items():
        changed = change_config(files, {"detector": {name: value}})
        assert getattr(changed.detector, name) != getattr(files.detector, name)
        keys.append(Models(changed).detection_key())
    paths = {Cache(Path()).path("detections", key) for key in keys}
    assert len(paths) == len(CHANGES) + 1
    fewer = change_config(files, {"detector": {"every": 3}})
    assert Models(fewer).detection_key() == keys[0], "each frame has the same detections"


@pytest.mark.parametrize("name", ["torch", "ultralytics", "onnxruntime", "av", "opencv-python"])
def test_another_version_of_a_library_is_another_key(files: Config, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def keys() -> list[dict[str, Any]]:
        models = Models(files)
        return [models.detection_key(), models.embedding_key()]

    before = keys()
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda other: "0.0.0" if other == name else real(other))
    changed = [a != b for a, b in zip(before, keys(), strict=True)]
    assert changed == [True, name != "ultralytics"]  # which is not used for embedding


def test_the_key_depends_on_the_content_of_weights_and_not_on_their_name(files: Config, tmp_path: Path) -> None:
    before = Models(files).detection_key(), Models(files).embedding_key()
    moved = {}
    for section, name in (("detector", "other.pt"), ("reid", "other.onnx")):
        source = Path(getattr(files, section).weights[0])
        moved[section] = {"weights": str(source.rename(tmp_path / name))}
    config = change_config(files, moved)
    assert (Models(config).detection_key(), Models(config).embedding_key()) == before
    for section in moved:
        Path(moved[section]["weights"]).write_bytes(b"trained on")
    after = Models(config).detection_key(), Models(config).embedding_key()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_the_family_from_the_name_of_a_file_is_in_the_key(tmp_path: Path) -> None:
    keys = []
    for name in ("fasterrcnn_resnet50_fpn.pth", "fasterrcnn_resnet50_fpn_v2.pth"):
        (tmp_path / name).write_bytes(b"the same arrays")
        keys.append(Models(load_config([{"detector": {"weights": str(tmp_path / name)}}])).detection_key())
    assert keys[0]["weights"] == keys[1]["weights"]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("detection/common.py", [True, False]),
        ("reid/crops.py", [False, True]),
        ("video/images/folder.py", [True, True]),
        ("models/device.py", [True, True]),
        ("models/libraries.py", [True, False]),
        ("lab/experiments/detections.py", [True, False]),
        ("lab/evaluation/reid_data.py", [False, True]),
        ("types.py", [True, True]),
        ("tracking/kalman.py", [False, False]),
    ],
)
def test_other_code_is_another_key(
    files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, changed: list[bool]
) -> None:
    package = shutil.copytree(Path(motserve.__file__).parent, tmp_path / "motserve")
    monkeypatch.setattr("motserve.__file__", str(package / "__init__.py"))

    def keys() -> list[dict[str, Any]]:
        _code_checksum.cache_clear()
        return [Models(files).detection_key(), Models(files).embedding_key()]

    before = keys()
    (package / module).write_text("# changed")
    assert [a != b for a, b in zip(before, keys(), strict=True)] == changed
    _code_checksum.cache_clear()


def test_another_machine_and_a_gpu_are_other_keys(
    files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU, device `auto` is another device."""
    keys = []
    for machine, driver in (("x86_64", tmp_path / "none"), ("arm64", tmp_path / "none"), ("x86_64", tmp_path)):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        monkeypatch.setattr("motserve.pipeline.detections.key._NVIDIA_DRIVER", driver)
        keys.append((Models(files).detection_key(), Models(files).embedding_key()))
    for one, other in combinations(keys, 2):
        assert one[0] != other[0]
        assert one[1] != other[1]


def test_settings_of_tracker_and_linking_are_in_no_key(files: Config) -> None:
    config = change_config(
        files,
        {
            "tracker": {"high_confidence": 0.5, "lost_buffer_s": 9, "kalman": {"position_noise": 0.2}},
            "reid": {"policy": "always", "max_distance": 0.9, "gallery": {"size": 2}, "batch_size": 3},
            "pipeline": {"window": 7},
            "evaluation": {"detect_batch": 2},
            "tuning": {"seed": 5},
        },
    )
    assert Models(config).detection_key() == Models(files).detection_key()
    assert Models(config).embedding_key() == Models(files).embedding_key()


@pytest.mark.parametrize(
    "change", [{"crop_height": 128}, {"crop_width": 64}, {"onnx_input": "bgr255"}, {"device": "cuda"}, {"half": False}]
)
def test_settings_of_the_embedder_input_are_in_its_key(files: Config, change: dict[str, Any]) -> None:
    changed = change_config(files, {"reid": change})
    assert Models(changed).embedding_key() != Models(files).embedding_key()
    assert Models(changed).detection_key() == Models(files).detection_key()


def test_another_video_or_rate_is_detected_again(
    folder: Path, files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = GreyDetector()
    use_detector(detector, monkeypatch)
    cache = Cache(tmp_path / "cache")

    def pictures(path: Path = folder, config: Config = files) -> int:
        before = detector.pictures
        detect(path, config, cache)
        return detector.pictures - before

    assert [pictures(), pictures()] == [7, 0]
    faster = change_config(files, {"video": {"image_folder_rate_hz": 60}})
    assert [pictures(config=faster), pictures(), pictures(config=faster)] == [7, 0, 0]
    assert detect(folder, faster, cache).timestamps[1] == pytest.approx(1 / 60)
    assert detect(folder, files, cache).timestamps[1] == pytest.approx(1 / 30)
    assert pictures(config=change_config(files, {"tracker": {"high_confidence": 0.65}})) == 0

    moved = folder.rename(tmp_path / "elsewhere")
    assert pictures(moved) == 0
    (moved / "seqinfo.ini").write_text("[Sequence]\nframeRate=5\n")
    assert pictures(moved) == 7
    (moved / "6.png").rename(moved / "06.png")
    assert pictures(moved) == 7
    cv2.imwrite(str(moved / "0.png"), np.full((32, 48, 3), 99, np.uint8))
    assert pictures(moved) == 7
    assert detect(moved, files, cache).detections[0].boxes[0, 2] == 100


# --- broken files and interrupts --------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_in_first_page(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 8]) + data[41:]


def written_by_another_program(data: bytes) -> bytes:
    other = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(data)).replace_schema_metadata(None), other)
    return other.getvalue()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": cut,
    "another format": lambda _: b"this is no Parquet" * 100,
    "a bit flipped among the numbers": flip_in_first_page,
    "a column renamed": lambda data: data.replace(b"scores", b"sc0res"),
    "without its notes": written_by_another_program,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_computed_again_with_a_warning(
    folder: Path,
    files: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    detector = GreyDetector()
    use_detector(detector, monkeypatch)
    cache = Cache(tmp_path / "cache")
    made = detect(folder, files, cache)
    (name,) = content(tmp_path / "cache")
    path = tmp_path / "cache" / name
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    assert path.read_bytes() != whole

    with caplog.at_level(logging.WARNING, "motserve"):
        assert_equal(detect(folder, files, cache), made)
    assert detector.pictures == 14
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert name.rpartition("/")[2] in record.getMessage()
    assert content(tmp_path / "cache") == [name]
    assert_equal(detect(folder, files, cache), made)
    assert detector.pictures == 14


def test_a_file_with_any_bit_flipped_gives_no_wrong_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, key = Cache(tmp_path), {"video": "a"}
    random = np.random.default_rng(0)
    detections = [
        Detections(random.random((n, 4), np.float32), random.random(n, np.float32), np.zeros(n, np.int64))
        for n in (3, 0, 5)
    ]
    cache.store_detections(key, detections, np.arange(3) / 7, {"rate_hz": 7.0})
    path = cache.path("detections", key)
    whole = path.read_bytes()
    caplog.set_level(logging.CRITICAL, "motserve")
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        cached = cache.load_detections(key)
        if cached is not None:
            assert bits(cached[0]) == bits(detections), place
            assert cached[1].tolist() == [0, 1 / 7, 2 / 7], place


def test_damaged_embeddings_are_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, key = Cache(tmp_path), {"crops": "a"}
    cache.store_embeddings(key, ["a", "b"], np.eye(2, 5, dtype=np.float32))
    path = cache.path("embeddings", key)
    whole = path.read_bytes()
    for data in (cut(whole), flip_in_first_page(whole), whole.replace(b"embedding", b"embeddinG")):
        path.write_bytes(data)
        assert cache.load_embeddings(key) is None
    assert len(caplog.records) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_detection_stores_nothing(
    folder: Path, files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    config = change_config(files, {"evaluation": {"detect_batch": 2}})
    cache = Cache(tmp_path / "cache")
    use_detector(GreyDetector(stops_after=4, error=error), monkeypatch)
    with pytest.raises(error):
        detect(folder, config, cache)
    assert not (tmp_path / "cache").exists()
    detector = GreyDetector()
    use_detector(detector, monkeypatch)
    assert len(detect(folder, config, cache)) == detector.pictures == 7


def test_an_interrupted_write_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.store_embeddings({"a": 1}, ["x"], np.ones((1, 3), np.float32))

    def half(table: object, file: BinaryIO, **options: object) -> None:
        file.write(b"PAR1")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", half)
    for key, others in (({"a": 1}, ["x", "y"]), ({"a": 2}, ["z", "y"])):
        with pytest.raises(KeyboardInterrupt):
            cache.store_embeddings(key, others, np.zeros((2, 3), np.float32))
    (cached,) = content(tmp_path)
    assert tmp_path / cached == cache.path("embeddings", {"a": 1})
    assert cache.load_embeddings({"a": 1})[0] == ["x"]  # type: ignore[index]


def test_a_result_that_cannot_be_cached_is_returned_with_a_warning(
    folder: Path, files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk or missing permissions do not lose hours of detection."""
    (tmp_path / "in the way").write_text("a file")
    use_detector(GreyDetector(), monkeypatch)
    with caplog.at_level(logging.WARNING, "motserve"):
        assert len(detect(folder, files, Cache(tmp_path / "in the way"))) == 7
    (record,) = caplog.records
    assert "cannot be written" in record.getMessage()


def test_a_broken_video_is_not_cached(
    folder: Path, files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "5.png"
    broken.write_bytes(broken.read_bytes()[:60])
    use_detector(GreyDetector(), monkeypatch)
    with pytest.raises(InvalidVideo, match=r"5\.png"):
        detect(folder, files, Cache(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


# --- round trips ------------------------------------------------------------------------------------------------------

floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
frames_of_rows = st.lists(
    st.lists(st.tuples(floats, floats, floats, floats, floats, st.integers(0, 2**62)), max_size=4)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=frames_of_rows, rate=st.one_of(st.none(), st.floats(0.1, 1000)))
def test_detections_are_restored_bit_by_bit(
    tmp_path: Path, frames: list[list[tuple[float, ...]]], rate: float | None
) -> None:
    cache, key = Cache(tmp_path), {"video": "a"}
    detections = []
    for rows in frames:
        numbers = np.array([row[:5] for row in rows], np.float32).reshape(-1, 5)
        detections.append(Detections(numbers[:, :4], numbers[:, 4], np.array([row[5] for row in rows], np.int64)))
    timestamps = np.arange(len(frames)) / 29.97
    cache.store_detections(key, detections, timestamps, {"rate_hz": rate})
    cached = cache.load_detections(key)
    assert cached is not None
    expected = [
        Detections(np.ascontiguousarray(d.boxes), np.ascontiguousarray(d.scores), d.classes) for d in detections
    ]
    assert bits(cached[0]) == bits(expected)
    assert cached[1].tobytes() == timestamps.tobytes()
    assert cached[2] == {"rate_hz": rate}


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (0, 4)])
def test_embeddings_are_restored_bit_by_bit(tmp_path: Path, shape: tuple[int, int]) -> None:
    cache = Cache(tmp_path)
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    names = [f"{number}, ä" for number in range(len(vectors))]
    cache.store_embeddings({"a": 1}, names, vectors)
    cached = cache.load_embeddings({"a": 1})
    assert cached is not None
    assert cached[0] == names
    assert cached[1].dtype == np.float32
    assert (cached[1].shape, cached[1].tobytes()) == (shape, vectors.tobytes())


def test_an_unknown_key_is_not_cached(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "none")
    assert cache.load_detections({"a": 1}) is None
    assert cache.load_embeddings({"a": 1}) is None
    assert not (tmp_path / "none").exists()


# --- appearance -------------------------------------------------------------------------------------------------------


def embed_all(appearance: Appearance, wanted: Sequence[tuple[int, FloatArray]]) -> list[FloatArray]:
    async def look() -> list[FloatArray]:
        return [await appearance.at(frame)(boxes) for frame, boxes in wanted]

    return asyncio.run(look())


WANTED = [(0, BOXES), (3, BOXES[1:]), (4, BOXES[:1] + np.float32(0.5)), (3, BOXES[:1])]


def test_embeddings_are_computed_from_crops_and_then_cached(
    clip: Path, networks: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    with Appearance(Footage(clip, networks.video), Models(networks), cache) as appearance:
        made = embed_all(appearance, WANTED)
    embedder = build_embedder(networks.reid, Weights("", Path(networks.reid.weights[0]), "", ""))
    with open_video(clip, networks.video) as video:
        images = [frame.image for frame in video.frames()]
    for (frame, boxes), found in zip(WANTED, made, strict=True):
        np.testing.assert_array_equal(found, embedder.embed(cut_crops(images[frame], boxes, 64, 32)))

    forbid(monkeypatch, "models.build_embedder", "footage.open_video")
    with Appearance(Footage(clip, networks.video), Models(networks), cache) as appearance:
        for found, expected in zip(embed_all(appearance, WANTED), made, strict=True):
            assert (found.shape, found.dtype, found.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())


class CountingEmbedder(CropEmbedder):
    """Embeds the mean of a crop and counts the crops."""

    dimension, crop_size, device = 3, (256, 128), "cpu"

    def __init__(self) -> None:
        self.crops = 0

    def embed(self, crops: np.ndarray) -> FloatArray:
        self.crops += len(crops)
        return np.asarray(crops.reshape(len(crops), -1, 3).mean(axis=1), np.float32)


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> CountingEmbedder:
    counting = CountingEmbedder()
    monkeypatch.setattr("motserve.lab.experiments.models.build_embedder", lambda *_: counting)
    return counting


def test_only_new_boxes_are_embedded(clip: Path, files: Config, tmp_path: Path, embedder: CountingEmbedder) -> None:
    cache = Cache(tmp_path / "cache")
    for wanted, total in (
        ([(2, BOXES[:2])], 2),
        ([(2, BOXES[:2]), (2, BOXES), (2, BOXES[::-1])], 3),
        ([(5, BOXES), (2, BOXES)], 6),
        ([(5, np.nextafter(BOXES, np.float32(1e9)))], 9),
        ([(5, BOXES), (2, BOXES)], 9),
    ):
        with Appearance(Footage(clip, files.video), Models(files), cache) as appearance:
            embed_all(appearance, wanted)
        assert embedder.crops == total
    with Appearance(Footage(clip, files.video), Models(files), cache) as appearance:
        forward, backward = embed_all(appearance, [(2, BOXES), (2, BOXES[::-1])])
    np.testing.assert_array_equal(forward, backward[::-1])
    assert len(content(tmp_path / "cache")) == 1


def test_embeddings_of_a_failed_run_are_not_cached(
    clip: Path, files: Config, tmp_path: Path, embedder: CountingEmbedder
) -> None:
    def fail() -> None:
        with Appearance(Footage(clip, files.video), Models(files), Cache(tmp_path / "cache")) as appearance:
            embed_all(appearance, [(0, BOXES)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not (tmp_path / "cache").exists()


def test_without_embeddings_no_file_is_written_and_no_video_opened(
    clip: Path, files: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, "models.build_embedder", "footage.open_video")
    with Appearance(Footage(clip, files.video), Models(files), Cache(tmp_path / "cache")):
        pass
    assert not (tmp_path / "cache").exists()


def test_the_same_box_in_another_video_has_another_embedding(
    clip: Path, folder: Path, files: Config, tmp_path: Path, embedder: CountingEmbedder
) -> None:
    cache = Cache(tmp_path / "cache")
    box = np.array([[0, 0, 30, 30]], np.float32)
    found = []
    for path in (clip, folder):
        with Appearance(Footage(path, files.video), Models(files), cache) as appearance:
            found += embed_all(appearance, [(1, box)])
    assert embedder.crops == 2
    assert found[0].tolist() != found[1].tolist() == [[10, 10, 10]]
