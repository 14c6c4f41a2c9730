from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from reid_training_data import tiny_settings, write_market

from motserve.errors import InvalidData, MotserveError, WeightsUnavailable
from training.progress import ProgressLines, duration
from training.ray_fit import root_cause
from training.reid import command as reid
from training.terminal import job_terminal, run

AGAIN = "to resume: command"


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


# --- lines of progress ------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_epoch_is_one_line_with_loss_score_and_time_left() -> None:
    said: list[str] = []
    clock = Clock()
    lines = ProgressLines(said.append, 20, epoch=2, clock=clock)
    clock.now += 40
    lines.end_epoch(3, 4.12345, ("mAP50-95", 12.345))
    clock.now += 20
    lines.end_epoch(4, 3.0)
    clock.now += 16 * 30
    lines.end_epoch(20, 2.0, ("mAP50-95", 50.0))
    assert said == [
        "epoch 3/20: loss 4.123, mAP50-95 12.35, 11 min 20 s left",
        "epoch 4/20: loss 3, 8 min 0 s left",
        "epoch 20/20: loss 2, mAP50-95 50.00",
    ]


def test_a_long_epoch_is_not_silent_for_half_a_minute() -> None:
    said: list[str] = []
    clock = Clock()
    lines = ProgressLines(said.append, 2, clock=clock)
    for number in range(1, 11):
        clock.now += 10
        lines.step(number, lambda: 10)
    assert said == ["epoch 1/2: batch 3/10", "epoch 1/2: batch 6/10", "epoch 1/2: batch 9/10"]
    lines.end_epoch(1, 1.0)
    clock.now += 29
    lines.step(1, lambda: 10)
    clock.now += 1
    lines.step(2, lambda: 10)
    assert said[3:] == ["epoch 1/2: loss 1, 1 min 40 s left", "epoch 2/2: batch 2/10"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (312, "5 min 12 s"), (7500, "2 h 5 min")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- the terminal and the log file ------------------------------------------------------------------------------------


def test_the_terminal_has_the_lines_of_the_job_and_the_log_all_the_rest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "job.log"
    with job_terminal(log) as say:
        sys.stdout.write("a table of Ray\n")
        os.write(2, b"a warning from C++\n")
        subprocess.run(["echo", "another process"], check=True)
        say("epoch 1/2: loss 3")
    sys.stdout.write("afterwards\n")
    assert capfd.readouterr() == ("afterwards\n", "epoch 1/2: loss 3\n")
    for text in ("a table of Ray", "a warning from C++", "another process", "epoch 1/2: loss 3"):
        assert text in log.read_text().splitlines()
    with job_terminal(log, show_logs=True) as say:
        sys.stdout.write("a table of Ray\n")
        say("epoch 2/2: loss 2")
    assert capfd.readouterr() == ("a table of Ray\n", "epoch 2/2: loss 2\n")
    assert log.read_text().splitlines()[-1] == "epoch 2/2: loss 2", "the log of a resumed job is continued"


def test_a_closed_pipe_does_not_end_the_job(tmp_path: Path) -> None:
    code = "from training.terminal import *; from pathlib import Path\nwith job_terminal(Path('log')) as say:\n"
    code += "    input(); say('a line'); say('done')"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stderr.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(60) == 0
    assert (tmp_path / "log").read_text() == "a line\ndone\n"


def fail(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        with job_terminal(Path("job.log")):
            raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InvalidData("labels.txt, line 1"), 3, "error: labels.txt, line 1"),
        (WeightsUnavailable("no weights"), 4, "error: no weights"),
        (MotserveError("two\nlines"), 1, "error: two lines; the traceback is in job.log"),
        (RuntimeError("CUDA error:\nno kernel"), 1, "error: RuntimeError: CUDA error: no kernel; the traceback is in "),
        (KeyboardInterrupt(), 130, f"stopped; {AGAIN}"),
        (SystemExit(143), 143, f"stopped; {AGAIN}"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(fail(error), AGAIN) == code
    output, errors = capfd.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert errors.startswith(line)
    assert ("Traceback" in Path("job.log").read_text()) == (code == 1)


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    def work() -> None:
        with job_terminal(tmp_path / "file" / "job.log"):
            pass

    assert run(work, AGAIN) == 1
    assert "file" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_job_with_its_exit_code(tmp_path: Path, number: signal.Signals) -> None:
    code = "import threading; from pathlib import Path; from training.terminal import *\ndef work():\n"
    code += "    with job_terminal(Path('log')) as say:\n        say('begun'); threading.Event().wait()\n"
    code += f"raise SystemExit(run(work, {AGAIN!r}))"
    with interruptible(["-c", code], tmp_path) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", f"stopped; {AGAIN}\n")
        assert process.returncode == 128 + number


def interruptible(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start Python with the usual signals, which a shell ignores for jobs in its background."""

    def reset() -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=reset,
    )


# --- failures of workers ----------------------------------------------------------------------------------------------


def test_theroot_cause_of_a_failed_training_is_one_sentence() -> None:
    follows = RuntimeError("connection closed\nby peer")
    failures: dict[int, Exception] = {0: follows, 1: InvalidData("a.png is broken")}
    assert root_cause(WorkerGroupError("[Rank 0]\nTraceback …", failures)) == "worker 1 failed: a.png is broken"
    alone = WorkerGroupError("[Rank 0]\nTraceback …", {2: follows, 0: follows})
    assert root_cause(alone) == "worker 0 failed: RuntimeError: connection closed by peer"
    assert root_cause(ControllerError(ValueError("no\nplace"))) == "ValueError: no place"
    lost = WorkerGroupError("[Rank 1]\nTraceback …", {0: follows, 1: RayActorError()})
    assert root_cause(lost).startswith("worker 1 was lost: its process ended")


# --- whole commands ---------------------------------------------------------------------------------------------------


def settings_file(folder: Path, **changes: Any) -> Path:
    """Write the settings of a tiny job, without its store: a command makes that itself."""
    write_market(folder / "market")
    tree = tiny_settings(folder / "market", folder, **changes).model_dump(mode="json")
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return file


def test_a_command_prints_the_progress_of_its_job(
    tmp_path: Path, mlflow_database: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    result = tmp_path / "result"
    assert reid.main(["--config", str(settings_file(tmp_path)), "--output", str(result)]) == 0
    output, errors = capfd.readouterr()
    assert output == ""
    start, *epochs, scores, end = errors.splitlines()
    assert start.startswith(
        f"tiny: 48 crops of 8 people in {tmp_path}/market and 12 for validation, mobilenet_v3_small"
    )
    assert start.endswith("from random weights, 3 epochs, this process on the CPU")
    assert [line.split(": loss")[0] for line in epochs] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all("validation mAP" in line for line in epochs)
    assert epochs[0].endswith(" s left")
    assert scores.startswith("scores on market, market1501, 6 queries: Rank-1 ")
    assert "the best epoch is " in end
    assert end.endswith(f"; weights in {result}/embedder.safetensors")
    assert reid.main(["--config", str(settings_file(tmp_path))]) == 2
    assert "no interrupted job tiny" in capfd.readouterr().err


@pytest.mark.workers
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_workers_and_the_job_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    file = settings_file(tmp_path, compute={"workers": 1}, schedule={"epochs": 1000})
    with interruptible(["-m", "training.reid", "--config", str(file)], tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            assert not line.startswith(("(", "20", "Traceback")), "only lines of the job"
            if line.startswith("epoch 1/1000"):
                break
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert output == ""
    assert errors.splitlines()[-1] == (
        f"stopped; to resume from the last checkpoint: python -m training.reid --config {file}"
    )
    assert "Traceback" not in errors
