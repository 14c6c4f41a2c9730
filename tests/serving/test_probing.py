"""Posted videos are checked in processes of their own, whatever a file does to them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from motserve.config import VideoConfig
from motserve.config.serving import ProbeConfig
from motserve.errors import InvalidVideo, NotFound, NotReady
from motserve.serving.probing import VideoProbes
from motserve.video import limited_probe, probe_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")

MIB = 1 << 20


@pytest.fixture
def probes() -> Iterator[VideoProbes]:
    with VideoProbes(ProbeConfig(parallel=1, memory_bytes=256 * MIB, timeout_s=20), VideoConfig()) as opened:
        yield opened


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
        if child.status() != psutil.STATUS_ZOMBIE and limited_probe.__name__ in child.cmdline()
    }


def test_one_process_checks_many_videos_and_gives_the_reasons_of_the_check(
    probes: VideoProbes, clip: Path, tmp_path: Path
) -> None:
    asyncio.run(probes.check(clip, "clip.mp4"))
    (first,) = _checkers()
    text = tmp_path / "text\udce9.mp4"
    text.write_bytes(b"not a video")
    with pytest.raises(InvalidVideo) as direct:
        probe_video(text, VideoConfig(), "a name")
    with pytest.raises(InvalidVideo) as limited:
        asyncio.run(probes.check(text, "a name"))
    assert str(limited.value) == str(direct.value)
    with pytest.raises(NotFound, match="there is no video"):
        asyncio.run(probes.check(tmp_path / "none.mp4", "none"))
    asyncio.run(probes.check(clip, "clip.mp4"))
    assert _checkers() == {first}


def test_a_video_that_needs_too_much_memory_is_refused_and_the_next_one_is_checked(
    probes: VideoProbes, clip: Path, tmp_path: Path
) -> None:
    large = _write(tmp_path / "large.mov", "png", "rgb48be", 8000, 4000)
    assert large.stat().st_size < MIB
    with pytest.raises(InvalidVideo, match=r"large\.mov"):
        asyncio.run(probes.check(large, "large.mov"))
    assert all(psutil.Process(pid).memory_info().rss < 256 * MIB for pid in _checkers())
    asyncio.run(probes.check(clip, "clip.mp4"))


def test_a_process_that_runs_out_of_memory_is_replaced(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    def exhaust(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(limited_probe, "probe_video", exhaust)
    request = {"path": str(clip), "name": "clip", "video": {}}
    assert limited_probe.answer_of(request) == {"error": "MemoryError", "message": ""}


def test_a_check_that_hangs_ends_and_the_next_video_is_checked(clip: Path) -> None:
    config = ProbeConfig(parallel=1, timeout_s=1)
    with VideoProbes(config, VideoConfig()) as probes:
        asyncio.run(_eventually(probes, clip))
        (hanging,) = _checkers()
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(InvalidVideo, match=r"clip cannot be checked within 1 s \(serving\.probe\.timeout_s\)"):
            asyncio.run(probes.check(clip, "clip"))
        assert hanging not in _checkers()
        asyncio.run(_eventually(probes, clip))
    assert not _checkers()


def test_a_service_that_stops_ends_its_checks_at_once_and_asks_to_post_again(clip: Path) -> None:
    async def stop() -> None:
        with VideoProbes(ProbeConfig(parallel=1, timeout_s=600), VideoConfig()) as probes:
            await probes.check(clip, "clip")
            (pid,) = _checkers()
            os.kill(pid, signal.SIGSTOP)
            check = asyncio.create_task(probes.check(clip, "clip"))
            await asyncio.sleep(0)
        with pytest.raises(NotReady, match="post the video again"):
            await check

    asyncio.run(stop())
    assert not _checkers()


async def _eventually(probes: VideoProbes, clip: Path) -> None:
    """Check a video; a new process may take more than the second that it has here."""
    for _ in range(20):
        try:
            return await probes.check(clip, "clip")
        except InvalidVideo:
            continue
    pytest.fail("the video is refused")


def test_a_crash_of_the_decoder_refuses_only_its_video(probes: VideoProbes, clip: Path) -> None:
    asyncio.run(probes.check(clip, "clip"))
    (pid,) = _checkers()
    os.kill(pid, signal.SIGSTOP)

    async def crash() -> None:
        check = asyncio.create_task(probes.check(clip, "clip"))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InvalidVideo, match="or crashes the decoder"):
            await check

    asyncio.run(crash())
    asyncio.run(probes.check(clip, "clip"))
    assert pid not in _checkers()


def test_the_processes_have_none_of_the_service_s_secrets(
    monkeypatch: pytest.MonkeyPatch, probes: VideoProbes, clip: Path
) -> None:
    monkeypatch.setenv("MOTSERVE_SERVING__ADMIN_TOKEN", "a token of the service")
    with VideoProbes(ProbeConfig(), VideoConfig()) as opened:
        asyncio.run(opened.check(clip, "clip"))
        environments = [psutil.Process(pid).environ() for pid in _checkers()]
    assert environments
    assert not [one for one in environments if "a token of the service" in one.values()]


def test_decoders_that_no_camera_needs_are_not_used(tmp_path: Path) -> None:
    odd = _write(tmp_path / "odd.avi", "zlib", "bgr24", 64, 48)
    with pytest.raises(InvalidVideo, match="no decoder"):
        probe_video(odd, VideoConfig())


def test_memory_of_a_video_is_free_when_it_is_closed(clip: Path) -> None:
    import gc
    import weakref

    from motserve.video import open_video

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
