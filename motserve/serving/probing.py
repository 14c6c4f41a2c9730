"""Checks posted videos in processes of their own, under limits of memory and time.

`motserve.video.limited_probe` is what these processes run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from typing import Any, Final, TypeVar

from motserve.config import VideoConfig
from motserve.config.serving import ProbeConfig
from motserve.errors import InvalidVideo, NotReady, Overloaded
from motserve.video.limited_probe import READY, REFUSALS

Result = TypeVar("Result")
logger = logging.getLogger("motserve.ingress")

_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from motserve.video import limited_probe; limited_probe.main()"
)
"""It imports from the places of this process and from no other; `-m` would search the working folder first."""
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8", "TZ", "LD_LIBRARY_PATH")
"""Names of the environment that a checking process gets: it holds strangers' files and needs no password."""
_START_S: Final = 60.0
"""Seconds in which a process must be ready; a fraction of a second is usual."""
_END_S: Final = 5.0


class VideoProbes:
    """Checks a few videos at a time; further ones wait, up to a limit.

    Each check runs in a process that is used again while it answers, and replaced when it dies, hangs, or has used up
    its memory.

    Args:
        config: Limits.
        video: The section `video` of the configuration.
        retry_after_s: Seconds after which a client may post a video again that was not checked in time.
    """

    def __init__(self, config: ProbeConfig, video: VideoConfig, retry_after_s: int) -> None:
        self._config = config
        self._retry_after_s = retry_after_s
        self._video = video.model_dump(mode="json")
        self._threads = ThreadPoolExecutor(config.parallel, thread_name_prefix="video-probe")
        self._idle: LifoQueue[_Process] = LifoQueue()  # the one that was used last is the first to be used again
        self._processes = [_Process(config.memory_bytes) for _ in range(config.parallel)]
        for process in self._processes:
            self._idle.put(process)

    async def __aenter__(self) -> VideoProbes:
        """Start one process ahead, so that the first video need not wait for it."""
        self._threads.submit(self._with_process, _Process.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the processes, also those that check."""
        await asyncio.to_thread(self._close)

    async def check(self, path: Path, name: str) -> None:
        """Check a video like `motserve.video.probe_video`.

        Args:
            path: Video file or image folder, absolute.
            name: Name of the video in messages.

        Raises:
            NotFound: The path does not exist.
            InvalidVideo: It is not a video, has no frame, is cut off or exceeds a limit, also of memory or time.
            Overloaded: The check has not begun within `serving.probe.wait_s`.
            NotReady: No process can be started, or the service is stopping.
        """
        # a thread that waits for its process goes on when the client is gone, and then has a process for the next video
        try:
            future = self._threads.submit(self._check, path, name)
        except RuntimeError as error:  # the threads have ended
            raise _stopping() from error
        checking = asyncio.wrap_future(future)
        try:
            await asyncio.wait({checking}, timeout=self._config.wait_s)
        except asyncio.CancelledError:
            future.cancel()
            checking.cancel()  # of a check that has begun: its error has no reader
            raise
        if future.cancel():  # it waits still; a check that has begun has a time limit of its own
            raise Overloaded(
                f"{name} waited {self._config.wait_s:g} s for its check behind other videos (serving.probe.wait_s); "
                "try later",
                self._retry_after_s,
            )
        await checking

    def _close(self) -> None:
        for process in self._processes:
            process.close()
        self._threads.shutdown()
        for process in self._processes:
            process.stop()

    def _check(self, path: Path, name: str) -> None:
        request = {"path": os.fsencode(path).hex(), "name": name, "video": self._video}
        allowed_s = self._config.timeout_s + _size(path) / self._config.bytes_per_s
        answer = self._with_process(lambda process: process.ask_again(request, allowed_s))
        if answer is None:
            raise InvalidVideo(f"{name} cannot be checked within {allowed_s:.0f} s (serving.probe.timeout_s)")
        kind, message = answer.get("error"), answer.get("message", "")
        if kind == MemoryError.__name__:
            raise InvalidVideo(
                f"{name} needs more memory to decode than {self._config.memory_bytes >> 20} MiB "
                "(serving.probe.memory_bytes), or crashes the decoder"
            )
        if kind in REFUSALS:
            raise REFUSALS[kind](message)
        if kind is not None:
            raise RuntimeError(f"the check of {name} failed: {kind}: {message}")

    def _with_process(self, use: Callable[[_Process], Result]) -> Result:
        process = self._idle.get()  # there are as many as threads
        try:
            return use(process)
        finally:
            self._idle.put(process)


class _Process:
    """One checking process, started at the first use."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._closed = False
        self._answered = 0

    def ask_again(self, request: dict[str, Any], allowed_s: float) -> dict[str, str] | None:
        """Ask, and once more in a new process if an old one gives no verdict: an earlier video may be the reason."""
        fresh = self.start()
        answer = self.ask(request, allowed_s)
        if fresh or (answer is not None and answer.get("error") != MemoryError.__name__):
            return answer
        return self.ask(request, allowed_s)

    def start(self) -> bool:
        """Start the process unless it runs; return whether it has not answered yet.

        Raises:
            NotReady: It does not start, or the service is stopping.
        """
        if self._process is None or self._process.poll() is not None:
            self.stop()
            with self._starting:
                if self._closed:
                    raise _stopping()
                self._process = self._launch()
            self._answered = 0
            if self._read_line(_START_S) != READY:
                self.stop()
                if self._closed:
                    raise _stopping()
                raise NotReady("the process that checks videos does not start; the log of the service says why")
        return not self._answered

    def ask(self, request: dict[str, Any], allowed_s: float) -> dict[str, str] | None:
        """Return the answer to a request, or None if there is none in time; MemoryError also stands for a crash."""
        self.start()
        try:
            return self._ask(request, allowed_s)
        except BaseException:  # an answer that was not read must not be taken for that of the next request
            self.stop()
            raise

    def close(self) -> None:
        """Kill the process for good; a thread that waits for its answer goes on."""
        with self._starting:
            self._closed = True
            if (process := self._process) is not None:
                process.kill()

    def stop(self) -> None:
        """Kill the process and wait for its end."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(BrokenPipeError):  # a request that was not read
                    pipe.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:  # it waits for a disk that does not answer
            logger.warning("the process %d, which checks videos, cannot be ended", process.pid)

    def _launch(self) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        modules = json.dumps([str(Path(place).resolve()) for place in sys.path if place])
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, modules, str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | {"OMP_NUM_THREADS": "1"},
            cwd="/",
            start_new_session=True,
        )

    def _ask(self, request: dict[str, Any], allowed_s: float) -> dict[str, str] | None:
        requests = self._process.stdin if self._process else None
        if requests is None:
            raise _stopping()
        try:
            requests.write(json.dumps(request).encode() + b"\n")
            requests.flush()
            line = self._read_line(allowed_s)
        except BrokenPipeError:  # it died before it read the request
            line = b""
        if line is not None and line.endswith(b"\n"):
            self._answered += 1
            answer: dict[str, str] = json.loads(line)
            if answer.get("error") != MemoryError.__name__:
                return answer
        elif self._closed:
            raise _stopping()
        reason = "hangs" if line is None else "ran out of memory or crashed"
        logger.warning("the process that checks videos %s and is replaced", reason, extra={"source": request["name"]})
        self.stop()
        return None if line is None else {"error": MemoryError.__name__}

    def _read_line(self, allowed_s: float) -> bytes | None:
        """Return a line of the process, without its end if the process ends; None if nothing comes in time."""
        end = time.monotonic() + allowed_s
        answers = self._process.stdout if self._process else None
        line = b""
        with selectors.DefaultSelector() as selector:
            if answers is None:
                return line
            selector.register(answers, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                if not (part := os.read(answers.fileno(), 65536)):
                    break
                line += part
        return line


def _stopping() -> NotReady:
    return NotReady("the service is stopping; post the video again")


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 for a folder, of which only the first picture is read."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # the check says what is wrong with the path
        return 0
