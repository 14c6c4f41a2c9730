"""Checks posted videos in processes of their own, under limits of memory and time.

`motserve.video.limited_probe` is what these processes run.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Final

from motserve.config import VideoConfig
from motserve.config.serving import ProbeConfig
from motserve.errors import InvalidVideo, NotReady
from motserve.video.limited_probe import REFUSALS

_MODULE: Final = "motserve.video.limited_probe"
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Names of the environment that a checking process gets: it holds strangers' files and needs no password."""


class VideoProbes:
    """Checks a few videos at a time; further ones wait.

    Each check runs in a process that is used again while it answers, and replaced when it dies, hangs, or has used up
    its memory.

    Args:
        config: Limits.
        video: The section `video` of the configuration.
    """

    def __init__(self, config: ProbeConfig, video: VideoConfig) -> None:
        self._config = config
        self._video = video.model_dump(mode="json", include=_needed(video))
        self._threads = ThreadPoolExecutor(config.parallel, thread_name_prefix="video-probe")
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._processes = [_Process(config) for _ in range(config.parallel)]
        for process in self._processes:
            self._idle.put(process)

    def __enter__(self) -> VideoProbes:
        """Start one process ahead, so that the first video need not wait for it."""
        self._threads.submit(self._with_process, _Process.start)
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, also those that check."""
        for process in self._processes:
            process.close()
        self._threads.shutdown()
        for process in self._processes:
            process.stop()

    async def check(self, path: Path, name: str) -> None:
        """Check a video like `motserve.video.probe_video`.

        Args:
            path: Video file or image folder.
            name: Name of the video in messages.

        Raises:
            NotFound: The path does not exist.
            InvalidVideo: It is not a video, has no frame, is cut off or exceeds a limit, also of memory or time.
        """
        request = {"path": str(path), "name": name, "video": self._video}
        loop = asyncio.get_running_loop()
        # a thread that waits for its process goes on when the client is gone, and then has a process for the next video
        await loop.run_in_executor(self._threads, self._check, request, path)

    def _check(self, request: dict[str, Any], path: Path) -> None:
        name = request["name"]
        allowed_s = self._config.timeout_s + _size(path) / self._config.bytes_per_s
        answer = self._with_process(lambda process: process.ask(request, allowed_s))
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

    def _with_process(self, use: Any) -> Any:
        process = self._idle.get()  # there are as many as threads
        try:
            return use(process)
        finally:
            self._idle.put(process)


class _Process:
    """One checking process, started at the first use."""

    def __init__(self, config: ProbeConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._closed = False

    def start(self) -> tuple[IO[bytes], IO[bytes]]:
        """Start the process unless it runs; return its input and output."""
        with self._starting:
            if self._closed:
                raise NotReady("the service is stopping; post the video again")
            return self._start()

    def _start(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(self._config.memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0]
        assert pipes[1]
        return pipes[0], pipes[1]

    def ask(self, request: dict[str, Any], allowed_s: float) -> dict[str, str] | None:
        """Return the answer to a request, or None if there is none in time; MemoryError also stands for a crash."""
        requests, answers = self.start()
        end = time.monotonic() + allowed_s
        try:
            requests.write(json.dumps(request).encode() + b"\n")
            requests.flush()
            line = b""
            while not line.endswith(b"\n"):
                ready, _, _ = select.select([answers], [], [], max(0.0, end - time.monotonic()))
                if not ready:
                    self.stop()
                    return None
                if not (part := os.read(answers.fileno(), 65536)):
                    return self._died()
                line += part
        except BrokenPipeError:  # it died before it read the request
            return self._died()
        answer: dict[str, str] = json.loads(line)
        if answer.get("error") == MemoryError.__name__:  # what a decoder has left there is not known
            self.stop()
        return answer

    def close(self) -> None:
        """Kill the process for good; a thread that waits for its answer goes on."""
        with self._starting:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _died(self) -> dict[str, str]:
        self.stop()
        if self._closed:
            raise NotReady("the service is stopping; post the video again")
        return {"error": MemoryError.__name__}

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
        process.wait()


def _needed(video: VideoConfig) -> set[str]:
    return {name for name in type(video).model_fields if name.startswith("max_") or name == "image_folder_rate_hz"}


def _size(path: Path) -> int:
    """Return the bytes of a file, or of the files in a folder."""
    try:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError:  # the check says what is wrong with the path
        return 0
