"""Videos at HTTP addresses: downloaded, tracked, removed; and what is wrong with those that cannot be."""

from __future__ import annotations

import gc
import gzip
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_checks import Motserve, assert_error, document, files_in

import motserve
from motserve.errors import DiskFull, InvalidConfig, InvalidVideo, MotserveError, NotFound
from motserve.files.addresses import remote_name


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; some paths are special."""

    def do_GET(self) -> None:
        if self.path.startswith("/moved.mp4"):
            self.send_response(302)
            self.send_header("Location", "/people.mp4?token=hidden")
            self.end_headers()
        elif self.path == "/cut.mp4":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
        elif self.path == "/private.mp4" and "Authorization" not in self.headers:
            self.send_error(401)
        elif self.path == "/huge.mp4":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 60))
            self.end_headers()
        elif self.path == "/small.mp4":
            data = gzip.compress(gzip.compress(bytes(1 << 20)))
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip, gzip")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server with a few videos; temporary files have a folder of their own."""
    folder, temporary = tmp_path / "site", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for name in ("people.mp4", "private.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "page.html").write_text("<p>no video</p>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["people.mp4", "moved.mp4"])
def test_a_video_is_downloaded_once_and_removed(
    site: str, name: str, clip: Path, untrained: Sequence[str], tmp_path: Path
) -> None:
    run = motserve.track(f"{site}/{name}?token=mine", overrides=[*untrained[1::2], "reid.policy=off"])
    assert not files_in(tmp_path / "temporary")
    result = run.run()
    local = motserve.track(clip, overrides=[*untrained[1::2], "reid.policy=off"]).run()
    assert (result.name, result.source) == (name, f"{site}/{name}?token=***")
    assert [frame.identities.tolist() for frame in run] == [frame.identities.tolist() for frame in local.frames]
    assert result.provenance["data"][name]["sha256"] == local.provenance["data"][clip.name]["sha256"]
    assert result.annotate(tmp_path / "annotated.mp4").exists()
    assert [place for place in files_in(tmp_path / "temporary") if place.endswith(name)]
    del run, result, local
    gc.collect()
    assert not files_in(tmp_path / "temporary")


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("/none.mp4", NotFound, "there is no video at http://127.0.0.1:.*/none.mp4: the server answers 404"),
        ("/private.mp4", InvalidVideo, "private.mp4 cannot be downloaded: the server answers 401"),
        ("/cut.mp4", InvalidVideo, "cut.mp4 cannot be downloaded: peer closed connection"),
        ("/huge.mp4", DiskFull, "are required"),
        ("/small.mp4", InvalidVideo, r"small.mp4 cannot be downloaded: the server compresses it \(gzip, gzip\)"),
        ("/page.html", InvalidVideo, "page.html is not a video"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_stays(
    site: str, path: str, kind: type[MotserveError], said: str, tmp_path: Path
) -> None:
    run = motserve.track(site + path, overrides=f"cache_dir={tmp_path / 'cache'}")
    with pytest.raises(kind, match=said):
        run.run()
    del run
    gc.collect()
    assert not files_in(tmp_path / "temporary")


def test_a_password_is_sent_and_not_shown(site: str, untrained: Sequence[str]) -> None:
    address = site.replace("http://", "http://me:secret@")
    run = motserve.track(f"{address}/private.mp4", overrides=[*untrained[1::2], "reid.policy=off"])
    assert "secret" not in repr(run)
    assert "secret" not in repr(run.run().provenance)


@pytest.mark.parametrize(
    "address",
    ["http://[::1/a.mp4", "http://127.0.0.1:1/a.mp4", "http://host/\udcff/a.mp4", "http://me:sec/ret@127.0.0.1/a.mp4"],
)
def test_an_address_without_a_server(address: str) -> None:
    with pytest.raises(InvalidVideo, match=r"a\.mp4") as caught:
        motserve.track(address).run()
    assert "'sec'" not in str(caught.value)


def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://me:secret@proxy")
    with pytest.raises(
        InvalidConfig, match="the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used"
    ) as caught:
        motserve.track("http://127.0.0.1:1/a.mp4").run()
    assert "secret" not in str(caught.value)


def test_the_command_line_takes_addresses(motserve: Motserve, site: str, untrained: Sequence[str]) -> None:
    result = motserve("track", f"{site}/people.mp4", f"{site}/none.mp4", *untrained, "--set", "reid.policy=off")
    assert result.exit_code == 3
    assert "there is no video at" in result.stderr
    assert files_in("runs") == ["people/tracks.json"]
    assert document("runs/people/tracks.json")["video"]["name"] == "people.mp4"
    assert_error(motserve("track", "rtsp://me:secret@camera/1"), 2, "rtsp://camera/1: live streams")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/b%2Fc.mp4", "c.mp4"),
        ("https://host/%2e%2e", "video"),
        ("https://host/.hidden.mp4", "hidden.mp4"),
        ("https://host/a%00b.mp4", "ab.mp4"),
        ("https://host/" + "x" * 300 + ".mp4", "x" * 196 + ".mp4"),
        ("https://host", "video"),
    ],
)
def test_names_are_file_names(url: str, name: str) -> None:
    assert remote_name(url) == name
