"""`motserve serve`: its configuration, its address, how it starts and how it ends."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cli_checks import Motserve, assert_error

from motserve.cli.running.service import read_serve_file, wait_for_answer, wait_until_ended
from motserve.errors import Conflict, InvalidConfig, MotserveError
from motserve.serving.addresses import free_port, is_loopback, require_cluster, require_free_port, url_of

HOST = "127.0.0.1"
SERVE_CONFIG = Path(__file__).parents[2] / "serve_config.yaml"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_serve_file_of_the_project_is_understood() -> None:
    file = read_serve_file(SERVE_CONFIG)
    assert (file.host, file.port) == (HOST, 8000)
    assert file.args.settings["serving"]["max_active_videos"] == 8
    assert file.options == {
        "proxy_location": "EveryNode", "logging_config": {"encoding": "JSON"}, "http_options": {}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("applications: []", "not a Serve configuration"),
        ("[1, 2]", "not a Serve configuration"),
        ("applications: [{}]\nhttp_options: {port: 70000}", "70000"),
        ("applications: [{}]\nhttp_options: {port: eighty}", "eighty"),
        ("applications: [{}]\nhttp_options: {host: [a]}", "host"),
        ("applications: [{}]\nhttp_options: text", "not a Serve configuration"),
        ("applications: [{args: {setings: {}}}]", "setings"),
        ("applications: [", "not valid"),
    ],
)
def test_a_wrong_serve_file_is_named(motserve: Motserve, text: str, said: str) -> None:
    Path("s.yaml").write_text(text)
    assert_error(motserve("serve", "--serve-config", "s.yaml"), 2, "s.yaml", said)


def test_a_missing_serve_file_is_named(motserve: Motserve) -> None:
    assert_error(motserve("serve", "--serve-config", "none.yaml"), 2, "cannot read none.yaml")


def test_a_taken_port_is_said_before_anything_starts(motserve: Motserve, taken: int) -> None:
    result = motserve("serve", "--serve-config", SERVE_CONFIG, "--port", taken, "--storage", "new")
    assert result.exit_code == 3
    assert not result.stdout
    assert result.stderr.splitlines()[-1] == (
        f"error: port {taken} of {HOST} is taken by another program; stop it or give another one with --port"
    )
    assert not Path("new").exists()


@pytest.mark.parametrize("address", ["nonsense", "10.0.0.5", "a:b", "h:99999", ":6379"])
def test_a_wrong_address_of_a_cluster_is_refused(motserve: Motserve, address: str) -> None:
    result = motserve("serve", "--serve-config", SERVE_CONFIG, "--address", address)
    assert result.exit_code == 2
    assert "is not the address of a Ray cluster" in result.stderr


def test_an_address_where_nothing_listens_is_refused_at_once(taken: int) -> None:
    require_cluster(f"{HOST}:{taken}")
    require_cluster(f"ray://{HOST}:{taken}")
    require_cluster("auto")
    with pytest.raises(InvalidConfig, match="there is no Ray cluster at"):
        require_cluster(f"{HOST}:{free_port(HOST)}")


def test_a_port_is_free_or_refused_in_words(taken: int) -> None:
    require_free_port(HOST, free_port(HOST))
    with pytest.raises(Conflict, match=f"port {taken}"):
        require_free_port(HOST, taken)
    with pytest.raises(InvalidConfig, match=r"cannot listen on 203\.0\.113\.1"):
        require_free_port("203.0.113.1", 8000)


def test_a_storage_that_cannot_be_made_is_a_usage_error(motserve: Motserve) -> None:
    Path("file").touch()
    assert motserve("serve", "--serve-config", SERVE_CONFIG, "--storage", "file/data").exit_code == 2
    result = motserve("serve", "--serve-config", SERVE_CONFIG, "--set", "serving.storage_dir=file/data")
    assert_error(result, 2, "serving.storage_dir is file/data: file is not a folder; give another one with --storage")


@pytest.mark.parametrize(
    ("host", "url", "local"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", True),
        ("0.0.0.0", "http://127.0.0.1:80", False),
        ("::", "http://[::1]:80", False),
        ("localhost", "http://localhost:80", True),
        ("10.0.0.7", "http://10.0.0.7:80", False),
    ],
)
def test_the_url_reaches_the_service(host: str, url: str, local: bool) -> None:
    assert (url_of(host, 80), is_loopback(host)) == (url, local)


def test_the_service_is_ready_when_it_answers(taken: int) -> None:
    with pytest.raises(MotserveError, match="does not answer at"):
        wait_for_answer(f"http://{HOST}:{free_port(HOST)}", limit_s=0.3, wait=lambda _: None)

    class Answers(http.server.BaseHTTPRequestHandler):
        codes = iter([503, 200])

        def do_GET(self) -> None:
            self.send_response(next(self.codes))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.HTTPServer((HOST, 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            wait_for_answer(f"http://{HOST}:{server.server_port}", wait=lambda _: None)
        finally:
            server.shutdown()
            thread.join()
    assert next(Answers.codes, None) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_service_and_is_no_error(number: signal.Signals) -> None:
    def unexpected(*_: object) -> None:
        """Not ignored, as the signal is where the tests run in the background of a shell."""

    before = signal.signal(number, unexpected)
    ended, sent = threading.Event(), threading.Thread(target=lambda: _send_until(ended, number))
    sent.start()
    try:
        wait_until_ended()
        ended.set()
        sent.join()
        assert signal.getsignal(number) is unexpected
    finally:
        signal.signal(number, before)


def _send_until(ended: threading.Event, number: signal.Signals) -> None:
    while not ended.wait(0.05):
        os.kill(os.getpid(), number)


def processes_with(mark: str) -> Iterator[Path]:
    """Processes that were started with this text in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if mark.encode() in (process / "environ").read_bytes():
                yield process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_service_starts_answers_and_ends(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port(HOST)
    command = [sys.executable, "-c", "from motserve.cli import app; app()", "serve", "--port", str(port)]
    options = ["--serve-config", str(SERVE_CONFIG), "--storage", str(tmp_path / "data")]
    environment = {**os.environ, "STARTED_BY_TEST": str(tmp_path)}
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line.startswith(f"motserve is ready at http://{HOST}:{port},"), process.stderr.read()
            assert httpx.get(f"http://{HOST}:{port}/healthz").status_code == 200
            process.send_signal(number)
            assert process.wait(60) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
    require_free_port(HOST, port)
    assert not list(processes_with(str(tmp_path)))
