"""On whose behalf something is done: the request and the video, carried from process to process.

Ray Serve hands its own request ID along handles, but not into a detached actor and not out of one again; so this small
object is an argument of every call instead.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from motserve.config.logs import current_log_fields, log_fields

_SANE: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # short, and no trouble to whoever reads logs


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asked.

    Attributes:
        request_id: ID of the HTTP request; empty where there was none.
        video_id: ID of the video; empty where it is about none.
        trace: Headers of W3C Trace Context; empty where nothing is traced.
    """

    request_id: str = ""
    video_id: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def current(cls, trace: Mapping[str, str], video_id: str = "") -> RequestContext:
        """Return on whose behalf the caller works.

        Args:
            trace: Headers of the present span.
            video_id: The video, where the caller's context does not know it yet.
        """
        fields = current_log_fields()
        return cls(fields.get("request_id", ""), video_id or fields.get("video_id", ""), trace)

    @property
    def span_attributes(self) -> dict[str, str]:
        """What is known, for a span."""
        return {k: v for k, v in (("request_id", self.request_id), ("video_id", self.video_id)) if v}

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Name the request and the video in all lines of the log that are written in this context."""
        with log_fields(request_id=self.request_id, video_id=self.video_id):
            yield


def request_id_of(given: str | None) -> str:
    """Return the ID that a client has given to its request, another one where it gave none that is sane.

    >>> request_id_of("abc-1")
    'abc-1'
    >>> len(request_id_of("no spaces, please"))
    32
    """
    return given if given is not None and _SANE.fullmatch(given) else uuid.uuid4().hex
