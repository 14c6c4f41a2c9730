"""Posted videos are checked in processes of their own, whatever a file does to them."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from motserve.config import VideoConfig
from motserve.config.serving import ProbeConfig
from motserve.errors import InvalidVideo, NotFound, NotReady, Overloaded
from motserve.serving import probing
from motserve.serving.probing import VideoProbes
from motserve.video import container, limited_probe, open_video, probe_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")

MIB = 1 << 20
SMALL = ProbeConfig(parallel=1, memory_bytes=256 * MIB, timeout_s=20)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return _write(tmp_path / "clip.mp4", "mpeg4", "yuv420p", 64, 48)


def _write(path: Path, codec: str, pixels: str, width: int, height: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        picture = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), "rgb24")
        for number in range(3):
            frame = picture.reformat(format=pixels)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _checkers() -> set[int]:
    """Return the processes below this one that check videos."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and any("limited_probe" in word for word in child.cmdline())
    }


def _run(use: Callable[[VideoProbes], Coroutine[Any, Any, None]], config: ProbeConfig = SMALL) -> None:
    async def run() -> None:
        async with VideoProbes(config, VideoConfig(), 7) as probes:
            await use(probes)

    asyncio.run(run())
    assert not _checkers()


def test_one_process_checks_many_videos_and_gives_the_reasons_of_the_check(clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text\udce9.mp4"
    text.write_bytes(b"not a video")
    with pytest.raises(InvalidVideo) as direct:
        probe_video(text, VideoConfig(), "a name")

    async def use(probes: VideoProbes) -> None:
        await probes.check(clip, "clip.mp4")
        first = _checkers()
        with pytest.raises(InvalidVideo) as limited:
            await probes.check(text, "a name")
        assert str(limited.value) == str(direct.value)
        with pytest.raises(NotFound, match="there is no video"):
            await probes.check(tmp_path / "none.mp4", "none")
        await probes.check(clip, "clip.mp4")
        assert _checkers() == first

    _run(use, ProbeConfig(parallel=2))


def test_a_video_that_needs_too_much_memory_is_refused_and_the_next_one_is_checked(clip: Path, tmp_path: Path) -> None:
    large = _write(tmp_path / "large.mov", "png", "rgb48be", 8000, 4000)
    assert large.stat().st_size < MIB

    async def use(probes: VideoProbes) -> None:
        with pytest.raises(
            InvalidVideo, match=r"large\.mov: its frames need more memory .* serving\.probe\.memory_bytes"
        ):
            await probes.check(large, "large.mov")
        await probes.check(clip, "clip.mp4")

    _run(use)


def test_a_check_that_hangs_is_repeated_and_then_ends(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(probes: VideoProbes) -> None:
        await probes.check(clip, "clip")
        (old,) = _checkers()
        os.kill(old, signal.SIGSTOP)
        await probes.check(clip, "clip")  # in a new process: the old one may have hung for another reason
        assert old not in _checkers()

    _run(use, ProbeConfig(parallel=1, timeout_s=1))

    async def stop_always(probes: VideoProbes) -> None:
        ask = probing._Process._ask

        def stopped(process: Any, request: dict[str, Any], allowed_s: float) -> Any:
            os.kill(process._process.pid, signal.SIGSTOP)
            return ask(process, request, allowed_s)

        with monkeypatch.context() as patch:
            patch.setattr(probing._Process, "_ask", stopped)
            with pytest.raises(InvalidVideo, match=r"clip cannot be checked within 1 s \(serving\.probe\.timeout_s\)"):
                await probes.check(clip, "clip")
        await probes.check(clip, "clip")

    _run(stop_always, ProbeConfig(parallel=1, timeout_s=1))


def test_a_crash_of_the_decoder_refuses_only_its_video(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(probes: VideoProbes) -> None:
        read = probing._Process._read_line

        def crashing(process: Any, allowed_s: float) -> Any:
            if process._answered or allowed_s < probing._START_S:
                os.kill(process._process.pid, signal.SIGKILL)
            return read(process, allowed_s)

        with monkeypatch.context() as patch:
            patch.setattr(probing._Process, "_read_line", crashing)
            with pytest.raises(InvalidVideo, match="or crashes the decoder"):
                await probes.check(clip, "clip")
        await probes.check(clip, "clip")

    _run(use)


def test_a_process_that_runs_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    def exhaust(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(limited_probe, "probe_video", exhaust)
    request = {"path": os.fsencode(clip).hex(), "name": "clip", "video": {}}
    assert limited_probe.answer_of(request) == {"error": "MemoryError", "message": ""}


def test_a_process_that_cannot_start_is_not_the_fault_of_the_video(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_PROGRAM", "raise SystemExit(1)  # limited_probe")

    async def use(probes: VideoProbes) -> None:
        with pytest.raises(NotReady, match="does not start"):
            await probes.check(clip, "clip")

    _run(use)


def test_many_open_files_do_not_disturb_a_check(clip: Path, tmp_path: Path) -> None:
    held = [os.open(clip, os.O_RDONLY) for _ in range(1100)]
    try:
        _run(lambda probes: probes.check(clip, "clip"))
    finally:
        for number in held:
            os.close(number)


def test_modules_of_the_working_folder_do_not_replace_others(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    _run(lambda probes: probes.check(clip, "clip"))


def test_a_service_that_stops_ends_its_checks_at_once_and_asks_to_post_again(clip: Path) -> None:
    async def stop() -> None:
        async with VideoProbes(ProbeConfig(parallel=1, timeout_s=600), VideoConfig(), 7) as probes:
            await probes.check(clip, "clip")
            (pid,) = _checkers()
            os.kill(pid, signal.SIGSTOP)
            check = asyncio.create_task(probes.check(clip, "clip"))
            await asyncio.sleep(0)
        with pytest.raises(NotReady, match="post the video again"):
            await check
        with pytest.raises(NotReady, match="post the video again"):
            await probes.check(clip, "clip")

    asyncio.run(stop())
    assert not _checkers()


def test_a_video_does_not_wait_for_ever_for_its_check(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release, checked = threading.Event(), threading.Event(), list[str]()

    def check(_: VideoProbes, path: Path, name: str) -> None:
        begun.set()
        release.wait(30)
        checked.append(name)

    monkeypatch.setattr(VideoProbes, "_check", check)
    monkeypatch.setattr(probing._Process, "start", lambda _: True)  # it takes the only thread for a while

    async def use(probes: VideoProbes) -> None:
        first = asyncio.create_task(probes.check(clip, "first"))
        await asyncio.to_thread(begun.wait, 30)
        with pytest.raises(Overloaded, match=r"second waited 1 s for its check .*\(serving\.probe\.wait_s\)") as error:
            await probes.check(clip, "second")
        assert error.value.retry_after_s == 7
        left = asyncio.create_task(probes.check(clip, "of a client that leaves"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait({left})
        assert not first.done(), "a check that has begun was given up"
        release.set()
        await first
        await probes.check(clip, "third")

    _run(use, ProbeConfig(parallel=1, memory_bytes=256 * MIB, timeout_s=20, wait_s=1))
    assert checked == ["first", "third"]


def test_the_processes_have_none_of_the_service_s_secrets(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setenv("MOTSERVE_SERVING__ADMIN_TOKEN", "a token of the service")

    async def use(probes: VideoProbes) -> None:
        await probes.check(clip, "clip")
        environments = [psutil.Process(pid).environ() for pid in _checkers()]
        assert environments
        assert not [one for one in environments if "a token of the service" in one.values()]

    _run(use)


def test_decoders_that_no_camera_needs_are_not_used(tmp_path: Path) -> None:
    odd = _write(tmp_path / "odd.avi", "zlib", "bgr24", 64, 48)
    with pytest.raises(InvalidVideo, match="no decoder"):
        probe_video(odd, VideoConfig())


CODECS = (
    "h264 hevc vvc av1 vp8 vp9 theora mpeg1video mpeg2video mpeg4 msmpeg4v2 msmpeg4v3 wmv1 wmv2 wmv3 vc1 mjpeg prores "
    "dnxhd cfhd dvvideo ffv1 huffyuv utvideo rawvideo v210 png gif flv1 svq3 rv40 h263 h261 qtrle hap fraps rpza"
)


@pytest.mark.parametrize("codec", CODECS.split())
def test_usual_codecs_have_a_decoder(codec: str) -> None:
    name = {"msmpeg4v3": "msmpeg4", "flv1": "flv"}.get(codec, codec)
    context = av.CodecContext.create(name, "r")
    assert context.codec.name in container._DECODERS


def test_memory_of_a_video_is_free_when_it_is_closed(clip: Path) -> None:
    gc.disable()
    try:
        source = open_video(clip, VideoConfig())
        source.check_complete()
        source.close()
        alive = weakref.ref(source)
        del source
        assert alive() is None
    finally:
        gc.enable()
