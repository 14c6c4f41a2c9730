from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest

from motserve.config import Config, load_config
from motserve.errors import WeightsUnavailable
from motserve.models import downloads
from motserve.models.checksums import checksum
from motserve.models.weights import find_weights, resolve_weights

Download = Callable[[Path], None]


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the one that comes with the package."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / "detector.safetensors").write_bytes(b"bundled detector")
    (folder / "embedder.safetensors").write_bytes(b"bundled embedder")
    (folder / "detector-free.safetensors").write_bytes(b"free detector")
    (folder / "embedder-free.safetensors").write_bytes(b"free embedder")
    monkeypatch.setattr("importlib.resources.files", lambda _: folder)
    return folder


def configure(tmp_path: Path, *names: str, role: str = "detector") -> Config:
    folders = {"models_dir": str(tmp_path / "models"), "cache_dir": str(tmp_path / "cache")}
    return load_config([{**folders, role: {"weights": list(names)}}])


def publish(monkeypatch: pytest.MonkeyPatch, download: Download) -> None:
    monkeypatch.setattr(downloads, "_download_ultralytics", download)


def unwanted(target: Path) -> None:
    pytest.fail("a download was requested")


def offline(target: Path) -> None:
    raise ConnectionError("this machine is offline")


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_path_is_used_directly(tmp_path: Path) -> None:
    path = put(tmp_path / "mine" / "a.pt")
    found = resolve_weights("detector", configure(tmp_path, str(path), "bundled"))
    assert (found.path, found.name, found.fallback) == (path, str(path), "")
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_name_is_found_in_the_models_folder_before_the_cache(tmp_path: Path) -> None:
    config = configure(tmp_path, "a.pt")
    cached = put(tmp_path / "cache" / "weights" / "a.pt", b"cached")
    assert resolve_weights("detector", config).path == cached
    preferred = put(tmp_path / "models" / "a.pt", b"mine")
    assert resolve_weights("detector", config).path == preferred


def test_a_name_may_be_a_file_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.onnx")
    monkeypatch.chdir(tmp_path)
    assert resolve_weights("detector", configure(tmp_path, "a.onnx")).path == Path("a.onnx")


def test_the_home_folder_is_expanded_in_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.pt")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_weights("detector", configure(tmp_path, "~/a.pt")).path == tmp_path / "a.pt"


def test_the_first_available_weights_are_used(tmp_path: Path, bundled: Path) -> None:
    put(tmp_path / "models" / "b.onnx")
    found = resolve_weights("detector", configure(tmp_path, "a.onnx", "b.onnx", "bundled"))
    assert found.name == "b.onnx"
    assert "a.onnx" in found.fallback


def test_a_missing_explicit_path_is_an_error_without_fallback(tmp_path: Path, bundled: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"none\.pt do not exist"):
        resolve_weights("detector", configure(tmp_path, str(tmp_path / "none.pt"), "bundled"))


def test_offline_the_bundled_weights_are_used_and_logged_once(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(monkeypatch, offline)
    found = resolve_weights("detector", configure(tmp_path, "yolov8s.pt", "bundled"))
    assert found.path == bundled / "detector.safetensors"
    assert "yolov8s.pt cannot be downloaded" in found.fallback
    assert "offline" in found.fallback
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["motserve.models.weights"]
    assert "yolov8s.pt" in warnings[0].getMessage()


def test_results_name_the_weights_without_their_path(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "mine" / "a.pt")
    assert resolve_weights("detector", configure(tmp_path, str(path))).describe() == {
        "name": "a.pt", "sha256": checksum(path), "fallback": ""
    }  # fmt: skip

    def full(target: Path) -> None:
        target.write_bytes(b"ha")
        raise OSError(28, "No space left on device", str(target))

    publish(monkeypatch, full)
    for names in (("a.onnx", "bundled"), ("yolov8s.pt", "bundled")):
        message = resolve_weights("detector", configure(tmp_path, *names)).describe()
        assert message["name"] == "bundled"
        assert names[0] in message["fallback"]
        assert str(tmp_path) not in str(message)


def test_a_download_ends_up_in_the_cache_and_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []

    def download(target: Path) -> None:
        downloads.append(target.name)
        target.write_bytes(b"published")

    publish(monkeypatch, download)
    config = configure(tmp_path, "yolov8s.pt")
    found = resolve_weights("detector", config)
    assert found == resolve_weights("detector", config)
    assert found.path == tmp_path / "cache" / "weights" / "yolov8s.pt"
    assert found.path.read_bytes() == b"published"
    assert downloads == ["yolov8s.pt"]
    assert [p.name for p in found.path.parent.iterdir()] == ["yolov8s.pt"]


def half_then_fail(target: Path) -> None:
    target.write_bytes(b"ha")
    raise TimeoutError("timed out")


def nothing(target: Path) -> None:
    pass


@pytest.mark.parametrize(("download", "reason"), [(half_then_fail, "timed out"), (nothing, "no such file")])
def test_a_failed_download_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: Download, reason: str
) -> None:
    publish(monkeypatch, download)
    with pytest.raises(WeightsUnavailable, match=reason):
        resolve_weights("detector", configure(tmp_path, "yolov8s.pt"))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.name != "weights"]


def test_an_unwritable_cache_causes_a_fallback(tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "cache")
    publish(monkeypatch, offline)
    assert resolve_weights("detector", configure(tmp_path, "yolov8s.pt", "bundled")).name == "bundled"


def test_unknown_names_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, unwanted)
    with pytest.raises(WeightsUnavailable, match=r"a\.onnx is neither in models_dir nor in the cache"):
        resolve_weights("detector", configure(tmp_path, "a.onnx"))
    with pytest.raises(WeightsUnavailable, match=r"a\.safetensors.*no known publisher"):
        resolve_weights("reid", configure(tmp_path, "a.safetensors", role="reid"))


@pytest.mark.parametrize(
    ("backbone", "published"),
    [
        ("resnet50", "resnet50-11ad3fa6.pth"),
        ("vit_b_16", "vit_b_16-c867db91.pth"),
        ("efficientnet_b4", "efficientnet_b4_rwightman-23ab8bcd.pth"),
        ("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth"),
        ("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"),
    ],
)
def test_imagenet_weights_are_fetched_by_name_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, published: str
) -> None:
    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        assert url.endswith(f"/{published}")
        assert published.endswith(f"-{hash_prefix}.pth")
        put(Path(target))

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    name = f"{backbone}-imagenet"
    found = resolve_weights("reid", configure(tmp_path, name, role="reid"))
    assert found.path == tmp_path / "cache" / "weights" / f"{backbone}_imagenet.pth"
    preferred = put(tmp_path / "models" / f"{backbone}_imagenet.pth")
    assert resolve_weights("reid", configure(tmp_path, name, role="reid")).path == preferred


def test_offline_imagenet_weights_are_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    with pytest.raises(WeightsUnavailable, match=r"vit_b_16-imagenet cannot be downloaded \(URLError: .*not known"):
        resolve_weights("reid", configure(tmp_path, "vit_b_16-imagenet", role="reid"))
    with pytest.raises(WeightsUnavailable, match=r"osnet_x1_0-imagenet .*no known publisher has it"):
        resolve_weights("reid", configure(tmp_path, "osnet_x1_0-imagenet", role="reid"))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
        ("ssd300_vgg16", "ssd300_vgg16_coco-b556d3b4.pth"),
        ("tf_efficientdet_d0", "tf_efficientdet_d0_34-f153e0cf.pth"),
    ],
)
def test_detectors_of_other_libraries_are_fetched_by_name_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, published: str
) -> None:
    if name.startswith("tf_"):
        pytest.importorskip("effdet")

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        assert url.endswith(f"/{published}")
        assert published.endswith(f"-{hash_prefix}.pth")
        put(Path(target))

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    found = resolve_weights("detector", configure(tmp_path, name))
    assert found.path == tmp_path / "cache" / "weights" / f"{name}.pth"
    assert found.describe()["name"] == name
    preferred = put(tmp_path / "models" / f"{name}.pth")
    assert resolve_weights("detector", configure(tmp_path, name)).path == preferred


def test_not_every_efficientdet_is_published(tmp_path: Path) -> None:
    pytest.importorskip("effdet")
    with pytest.raises(WeightsUnavailable, match=r"efficientdet_d2 cannot be downloaded .*no such file"):
        resolve_weights("detector", configure(tmp_path, "efficientdet_d2"))


def test_without_its_library_a_download_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("tf_efficientdet_d0", "effdet"), ("hf://facebook/detr-resnet-50", "huggingface_hub")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(WeightsUnavailable, match=rf"needs {module} .*pip install 'motserve\[detectors\]'"):
            resolve_weights("detector", configure(tmp_path, name))


def publish_on_the_hub(monkeypatch: pytest.MonkeyPatch, *files: str) -> list[str]:
    """Let the Hub have a repository; returns the names of the requested files."""
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(repository: str, local_dir: Path, allow_patterns: list[str]) -> str:
        assert allow_patterns == ["*.json", "*.safetensors"]
        asked.append(repository)
        for file in files:
            put(local_dir / file)
        put(local_dir / ".cache" / "huggingface" / "config.json.metadata", str(len(asked)).encode())
        return str(local_dir)

    monkeypatch.setattr(hub, "snapshot_download", download)
    return asked


def test_a_model_of_the_hub_is_a_folder_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = publish_on_the_hub(monkeypatch, "config.json", "model.safetensors")
    config = configure(tmp_path, "hf://facebook/detr-resnet-50")
    assert find_weights("detector", config) == [("hf://facebook/detr-resnet-50", None)]
    found = resolve_weights("detector", config)
    assert found == resolve_weights("detector", config)
    assert asked == ["facebook/detr-resnet-50"]
    assert found.path == tmp_path / "cache" / "weights" / "facebook--detr-resnet-50"
    # nothing that differs from one download to the next
    assert sorted(file.name for file in found.path.iterdir()) == ["config.json", "model.safetensors"]
    assert [folder.name for folder in found.path.parent.iterdir()] == [found.path.name]
    assert found.describe()["name"] == "detr-resnet-50"
    preferred = put(tmp_path / "models" / "facebook--detr-resnet-50" / "config.json").parent
    assert resolve_weights("detector", config).path == preferred


def test_a_hub_model_without_safetensors_is_refused(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_on_the_hub(monkeypatch, "config.json")
    found = resolve_weights("detector", configure(tmp_path, "hf://facebook/detr-resnet-50", "bundled"))
    assert found.name == "bundled"
    assert "no .safetensors" in found.fallback
    assert not (tmp_path / "cache" / "weights" / "facebook--detr-resnet-50").exists()


def test_an_unreachable_hub_is_reported_in_one_line(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError(f"Got: ConnectError\nnothing in {tmp_path}")

    monkeypatch.setattr(hub, "snapshot_download", download)
    found = resolve_weights("detector", configure(tmp_path, "hf://facebook/detr-resnet-50", "bundled"))
    assert "the Hugging Face Hub cannot be reached" in found.fallback
    assert str(tmp_path) not in found.fallback


@pytest.mark.parametrize("name", ["hf://detr", "hf://a/b/c", "hf://a/b.pt/c.pt", "hf://"])
def test_names_that_are_not_repositories_are_not_sent_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = publish_on_the_hub(monkeypatch, "model.safetensors")
    with pytest.raises(WeightsUnavailable, match="no known publisher has it"):
        resolve_weights("detector", configure(tmp_path, name))
    assert not asked


def test_the_error_gives_the_reason_of_every_name(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, offline)
    (bundled / "detector.safetensors").unlink()
    with pytest.raises(WeightsUnavailable, match=r"yolov8s\.pt.*offline.*no bundled detector"):
        resolve_weights("detector", configure(tmp_path, "yolov8s.pt", "bundled"))


def test_finding_weights_downloads_nothing(tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, unwanted)
    put(tmp_path / "models" / "b.pt")
    missing = str(tmp_path / "none.pt")
    found = find_weights("detector", configure(tmp_path, "a.pt", missing, "b.pt", "bundled"))
    assert [(name, w.path if w else None) for name, w in found] == [
        ("a.pt", None),
        (missing, None),
        ("b.pt", tmp_path / "models" / "b.pt"),
        ("bundled", bundled / "detector.safetensors"),
    ]
    (bundled / "detector.safetensors").unlink()
    assert find_weights("detector", configure(tmp_path, "bundled")) == [("bundled", None)]


def test_detector_and_embedder_have_different_bundled_weights(tmp_path: Path, bundled: Path) -> None:
    assert resolve_weights("detector", configure(tmp_path, "bundled")).path == bundled / "detector.safetensors"
    reid = configure(tmp_path, "bundled", role="reid")
    assert resolve_weights("reid", reid).path == bundled / "embedder.safetensors"


def test_free_weights_have_their_own_name_and_files(tmp_path: Path, bundled: Path) -> None:
    weights = resolve_weights("detector", configure(tmp_path, "bundled-free"))
    assert (weights.name, weights.path) == ("bundled-free", bundled / "detector-free.safetensors")
    embedder = resolve_weights("reid", configure(tmp_path, "bundled-free", role="reid"))
    assert (embedder.name, embedder.path) == ("bundled-free", bundled / "embedder-free.safetensors")
    (bundled / "detector-free.safetensors").unlink()
    with pytest.raises(WeightsUnavailable, match="no bundled-free detector weights"):
        resolve_weights("detector", configure(tmp_path, "bundled-free"))


def test_the_checksum_of_a_folder_is_over_its_files_in_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path / "m" / "b.bin", b"second")
    put(tmp_path / "m" / "a" / "x.xml", b"first")
    assert checksum(tmp_path / "m") == hashlib.sha256(b"firstsecond").hexdigest()
    put(tmp_path / "m" / "b.bin", b"changed")
    assert checksum(tmp_path / "m") != hashlib.sha256(b"firstsecond").hexdigest()


@pytest.mark.parametrize("name", ["a.data", "arrays/ä.data", "a" * 127, "a" * 128, "a" * 200])
def test_the_checksum_of_a_graph_covers_the_files_that_hold_its_arrays(tmp_path: Path, name: str) -> None:
    def entry(key: bytes, value: bytes) -> bytes:  # a field of an ONNX graph, as its format writes it
        size = [len(value)] if len(value) < 128 else [len(value) & 127 | 128, len(value) >> 7]
        return b"\n" + bytes([len(key)]) + key + b"\x12" + bytes(size) + value

    graph = put(tmp_path / "a.onnx", b"graph" + entry(b"location", name.encode()) + entry(b"offset", b"0"))
    put(tmp_path / "b.data", b"another's")
    alone = checksum(graph)
    arrays = put(tmp_path / name, b"arrays")
    assert checksum(graph) == hashlib.sha256(graph.read_bytes() + b"arrays").hexdigest() != alone
    arrays.write_bytes(b"trained on")
    assert checksum(graph) == hashlib.sha256(graph.read_bytes() + b"trained on").hexdigest()


def test_devices_are_refused_as_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    for path in ("/dev/zero", str(tmp_path / "pipe.pt")):
        with pytest.raises(WeightsUnavailable, match=rf"{path} are a pipe or a device"):
            resolve_weights("detector", load_config([{"detector": {"weights": path}}]))
