"""Posts a clip to the service several times at once, and notes when the tracks of each frame arrive."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx
import numpy as np

from motserve.errors import MotserveError, NotReady, Overloaded
from motserve.lab.benchmark.serving.deliveries import Deliveries

_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 300.0  # until the next frame; a session may wait for a free CPU until another one has ended
_SHOWN: Final = 300  # characters of an answer that was not expected


class ServiceClient:
    """A client of a running service.

    Args:
        url: Address of the service.
        transport: Transport of requests; None for HTTP.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        limits = httpx.Limits(max_connections=None)
        try:
            self._http = httpx.Client(
                base_url=url, timeout=timeout, limits=limits, trust_env=False, transport=transport
            )
        except httpx.InvalidURL as error:
            raise NotReady(f"{url!r} is not the address of a service: {error}") from error

    def check(self) -> None:
        """Check that the service answers.

        Raises:
            NotReady: It does not.
        """
        try:
            answer = self._http.get("/readyz")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotReady(f"no service answers at {self._url}: {error}; start it with motserve serve") from error
        if not answer.is_success:
            raise NotReady(f"the service at {self._url} is not ready: {answer.status_code} {answer.text[:_SHOWN]}")

    def track_at_once(self, clip: Path, sessions: int, frames: int) -> list[Deliveries]:
        """Post a clip several times at once, wait for all tracks, and delete the videos.

        Args:
            clip: The clip.
            sessions: How many times.
            frames: Frames of the clip.

        Returns:
            The arrival of the frames of each video; it begins when the upload has ended.

        Raises:
            Overloaded: The service does not accept so many videos at a time.
            MotserveError: It does not track a video to its end.
        """
        with ThreadPoolExecutor(sessions, thread_name_prefix="post") as threads:
            posts = [threads.submit(self._track, clip, frames) for _ in range(sessions)]
        results = [post.result() for post in posts]
        for _, video in results:
            self._request("DELETE", video)
        return [deliveries for deliveries, _ in results]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _track(self, clip: Path, frames: int) -> tuple[Deliveries, str]:
        """Post a clip; return the arrival of its frames and the address of the video."""
        times: list[float] = []
        tail = b""
        try:
            with (
                _TimedFile(clip) as file,
                self._http.stream("POST", "/v1/videos", params={"wait": True}, files={"file": file}) as answer,
            ):
                self._check(answer)
                for block in answer.iter_bytes():
                    now = time.monotonic()
                    times += [now] * block.count(b"\n")
                    tail = (tail + block)[-_SHOWN * 10 :]
        except httpx.HTTPError as error:
            raise NotReady(f"the service at {self._url} stopped answering: {type(error).__name__}: {error}") from error
        _check_last(tail.rstrip(b"\n").rpartition(b"\n")[2])
        if len(times) != frames:
            raise MotserveError(f"the service returned the tracks of {len(times)} frames of a clip of {frames}")
        return Deliveries(file.read_at, np.array(times)), answer.headers["location"]

    def _request(self, method: str, path: str) -> None:
        try:
            self._http.request(method, path).raise_for_status()
        except httpx.HTTPError as error:
            raise NotReady(f"the service at {self._url} does not answer {method} {path}: {error}") from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        answer.read()
        message = f"the service at {self._url} refused the clip: {answer.status_code} {answer.text[:_SHOWN]}"
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            retry_after = answer.headers.get("retry-after", "0")
            raise Overloaded(
                f"{message}; lower --sessions, or raise serving.max_active_videos of the service",
                int(retry_after) if retry_after.isdigit() else 0,
            )
        raise MotserveError(message)


class _TimedFile(io.FileIO):
    """A file that notes when it was read last."""

    read_at = 0.0

    def read(self, size: int | None = -1, /) -> Any:
        data = super().read(-1 if size is None else size)
        self.read_at = time.monotonic()
        return data


def _check_last(line: bytes) -> None:
    """Raise the error of a failed video, which is the last line of its tracks.

    Raises:
        MotserveError: The video has failed.
    """
    try:
        document = json.loads(line) if line.startswith(b'{"error"') else {}
    except ValueError:
        return
    if document:
        raise MotserveError(f"the service failed to track the clip: {document['error'].get('message', line)}")
