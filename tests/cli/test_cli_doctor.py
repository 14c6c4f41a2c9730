"""`motserve doctor`: each check with the facts of a machine passed in, and the command with all of them."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_checks import Motserve
from rich.table import Table

from motserve.cli.doctor import machine, probes, software
from motserve.cli.doctor.finding import Finding, run_checks
from motserve.cli.doctor.probes import ProbeFailed
from motserve.cli.output.terminal import WholeConsole
from motserve.errors import Conflict
from motserve.models.bundled import CHECKSUMS
from motserve.models.weights import Weights

HERE = Weights("a.pt", Path("a.pt"), "0" * 64, "")
SECOND: list[tuple[str, Weights | None]] = [("b.pt", None), ("a.pt", HERE)]
WORKING: dict[str, Any] = {
    "torch": {"version": "2.9", "torchvision": "0.24", "cuda": "12.8", "devices": ["H200"], "mps": False},
    "openvino": {"version": "2026.4.1", "processor": "AMD EPYC"},
    "onnxruntime": ["CPUExecutionProvider"],
    "codecs": {"h264": True, "hevc": True, "vp9": True, "av1": True, "encode h264": True},
}


def answers(question: str) -> Any:
    return WORKING[question]


def fails(question: str) -> Any:
    raise ProbeFailed(f"no answer to {question}")


def answering(**changes: Any) -> Callable[[str], Any]:
    return lambda question: {**WORKING[question], **changes}


def backends(detector: str, reid: str) -> dict[str, str]:
    return {"detector": detector, "reid": reid}


def absent(package: str) -> str | None:
    return None if package == "av" else "1.0"


def unavailable() -> None:
    raise Conflict("port 8000 is taken")


@pytest.mark.parametrize(
    ("finding", "state", "required", "said"),
    [
        (software.check_python((3, 11, 7)), "ok", True, "3.11.7"),
        (software.check_python((3, 9, 1)), "broken", True, "3.10 or later"),
        (software.check_packages("p", ["av"], lambda _: "17.0", True, "pip"), "ok", True, "av 17.0"),
        (software.check_packages("p", ["lap", "av"], absent, True, "pip"), "broken", True, "not installed: av"),
        (software.check_packages("p", ["lap", "av"], absent, False, "pip"), "limited", False, "not installed: av"),
        (software.check_torch(answers, True), "ok", True, "H200"),
        (software.check_torch(answering(devices=[]), False), "ok", True, "on the CPU"),
        (software.check_torch(answering(devices=[], mps=True), False), "ok", True, "detector.device=mps"),
        (software.check_torch(answering(devices=[]), True), "limited", True, "update the driver"),
        (software.check_torch(answering(devices=[], cuda=None), True), "limited", True, "without CUDA"),
        (software.check_torch(fails, True), "broken", True, "no answer to torch"),
        (software.check_openvino(answers, backends("auto", "auto")), "ok", False, "runs detector and reid where"),
        (software.check_openvino(answers, backends("auto", "torch")), "ok", False, "runs detector where no GPU"),
        (software.check_openvino(answers, backends("torch", "torch")), "ok", False, "not used"),
        (software.check_openvino(fails, backends("auto", "auto")), "limited", False, "run on PyTorch, more slowly"),
        (software.check_openvino(fails, backends("auto", "openvino")), "broken", True, "reid cannot run"),
        (software.check_onnxruntime(answers), "ok", False, "CPU"),
        (software.check_onnxruntime(fails), "limited", False, "no answer"),
        (software.check_backends(lambda _: True), "ok", False, "tensorrt"),
        (software.check_backends(lambda name: name != "effdet"), "ok", False, "motserve[detectors]"),
        (software.check_codecs(answers), "ok", True, "decodes h264, hevc, vp9, av1; encodes h264"),
        (software.check_codecs(answering(av1=False)), "limited", True, "cannot decode av1"),
        (software.check_codecs(answering(**{"encode h264": False})), "limited", True, "cannot encode h264"),
        (software.check_codecs(lambda _: dict.fromkeys(WORKING["codecs"], False)), "broken", True, "decode h264"),
        (software.check_codecs(fails), "broken", True, "PyAV"),
        (machine.check_weights("reid", [("a.pt", HERE)], lambda _: False), "ok", False, "a.pt is used"),
        (machine.check_weights("reid", SECOND, lambda _: False), "ok", False, "not here: b.pt"),
        (machine.check_weights("reid", SECOND, lambda _: True), "limited", False, "models pull"),
        (machine.check_weights("reid", [("b.pt", None)], lambda _: True), "limited", False, "models pull"),
        (machine.check_weights("reid", [("b.pt", None)], lambda _: False), "broken", True, "--set reid.weights"),
        (machine.check_port(8000, lambda: None), "ok", False, "8000 is free"),
        (machine.check_port(8000, unavailable), "limited", False, "port 8000 is taken"),
        (machine.check_network({"a.b": "weights"}, lambda _: ""), "ok", False, "a.b"),
        (machine.check_network({"a.b": "weights"}, lambda _: "timed out"), "limited", False, "timed out"),
        (machine.check_shared_memory(None), "limited", False, "/tmp"),
        (machine.check_shared_memory(64 << 20), "limited", False, "--shm-size"),
        (machine.check_shared_memory(8 << 30), "ok", False, "/dev/shm"),
        (machine.check_open_files(1024), "limited", False, "ulimit"),
        (machine.check_open_files(65536), "ok", False, "65536"),
        (machine.check_open_files(-1), "ok", False, "no limit"),
    ],
)  # fmt: skip
def test_a_check_says_what_it_finds_and_how_to_mend_it(finding: Finding, state: str, required: bool, said: str) -> None:
    assert (finding.state, finding.required) == (state, required)
    assert said in f"{finding.text} {finding.mend}"
    assert finding.state == "ok" or finding.mend


def test_folders_are_checked_without_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "folder"
    assert machine.check_folder("cache", folder, 1, "--set").state == "ok"
    full = machine.check_folder("cache", folder, 1 << 60, "--set cache_dir")
    assert (full.state, full.required) == ("broken", False)
    assert "--set cache_dir" in full.mend
    (tmp_path / "file").touch()
    assert "cannot be written" in machine.check_folder("cache", tmp_path / "file" / "x", 1, "--set").text
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "cannot be written" in machine.check_folder("cache", folder, 1, "--set").text
    assert not folder.parent.exists()


def test_damaged_and_missing_weights_of_the_package_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")

    def checksum(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    sums = {"a": checksum(tmp_path / "a")}
    assert machine.check_bundled(sums, tmp_path, checksum).state == "ok"
    finding = machine.check_bundled({"a": "0" * 64, "b": "0" * 64}, tmp_path, checksum)
    assert (finding.state, finding.text) == ("broken", "missing or damaged: a, b")


def test_the_checksums_of_the_package_are_those_of_its_files() -> None:
    import motserve.models.bundled as bundled

    folder = Path(bundled.__path__[0])
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}
    assert files == CHECKSUMS


def test_a_check_that_hangs_or_fails_does_not_stop_the_others() -> None:
    never = threading.Event()

    def hang() -> Finding:
        never.wait()
        raise AssertionError

    def fail() -> Finding:
        raise OSError("stale handle")

    found = run_checks({"a": hang, "b": fail, "c": lambda: Finding("c", "ok", "fine")}, limit_s=0.05)
    never.set()
    assert [(one.name, one.state) for one in found] == [("a", "broken"), ("b", "broken"), ("c", "ok")]
    assert found[0].text == "no answer in 0.05 s"
    assert "stale handle" in found[1].text


def test_a_library_that_hangs_or_ends_its_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProbeFailed, match=r"no answer in 0\.01 s"):
        probes.ask("codecs", limit_s=0.01)
    with pytest.raises(ProbeFailed, match="has no attribute 'ask_nothing'"):
        probes.ask("nothing")


def test_pyav_of_this_environment_decodes_and_encodes() -> None:
    assert probes.ask_codecs()["h264"]
    assert probes.ask_codecs()["encode h264"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries are not asked, and nothing outside this machine is."""
    monkeypatch.setattr(probes, "ask", answers)
    monkeypatch.setattr("motserve.cli.doctor.command._reach", lambda _: "unreachable")


@pytest.mark.usefixtures("quick")
def test_the_table_names_every_check(motserve: Motserve) -> None:
    result = motserve("doctor")
    assert result.exit_code == 0, result.output
    for said in (
        "Python",
        "packages",
        "H200",
        "codecs",
        "bundled weights",
        "network",
        "shared memory",
        "tracking works",
    ):
        assert said in result.stdout


@pytest.mark.usefixtures("quick")
def test_json_has_the_same_and_offline_asks_no_host(motserve: Motserve) -> None:
    result = motserve("doctor", "--json", "--offline")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["tracking_works"]
    states = {check["name"]: check["state"] for check in document["checks"]}
    assert "network" not in states
    assert states["codecs"] == states["bundled weights"] == "ok"


@pytest.mark.usefixtures("quick")
def test_without_weights_or_codecs_the_exit_code_is_1(motserve: Motserve, monkeypatch: pytest.MonkeyPatch) -> None:
    result = motserve("doctor", "--offline", "--set", "detector.weights=none.onnx")
    assert result.exit_code == 1
    assert "no video can be tracked" in result.stdout
    assert motserve("doctor", "--offline", "--set", "serving.storage_dir=/proc/none").exit_code == 0
    monkeypatch.setattr(probes, "ask", fails)
    assert json.loads(motserve("doctor", "--offline", "--json").stdout)["tracking_works"] is False


def test_a_table_in_a_file_is_whole_and_has_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("a", "b")
    table.add_row("[red]x[/]", "word " * 100)
    file = io.StringIO()
    WholeConsole(file=file).print(table)
    assert ("word " * 100).strip() in file.getvalue()
    assert "\x1b" not in file.getvalue()
    narrow = io.StringIO()
    WholeConsole(file=narrow, width=40).print(table)
    assert max(map(len, narrow.getvalue().splitlines())) == 40
