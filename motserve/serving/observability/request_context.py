"""The context of a request: request ID, video ID and trace headers, passed from process to process.

Ray Serve passes its own request ID through handles, but not into or out of a detached actor. So this small object
is an argument of every call instead.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Final

from motserve.config.logs import log_fields

_VALID_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # short, and harmless in log lines


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request that a piece of work belongs to.

    Attributes:
        request_id: ID of the HTTP request; empty if there is none.
        video_id: ID of the video; empty if the request concerns none.
        trace: W3C Trace Context headers; empty if the request is not traced.
    """

    request_id: str = ""
    video_id: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def current(trace: Mapping[str, str], video_id: str = "") -> RequestContext:
        """Return the context that the caller runs in.

        Args:
            trace: Headers of the current span.
            video_id: The video, if the request did not concern one until now.
        """
        request = _current.get() or RequestContext()
        return replace(request, video_id=video_id or request.video_id, trace=trace)

    @property
    def span_attributes(self) -> dict[str, str]:
        """The IDs that are not empty, as attributes of a span."""
        return {k: v for k, v in (("request_id", self.request_id), ("video_id", self.video_id)) if v}

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Make this the current request, and add its IDs to all log lines written inside this context manager."""
        token = _current.set(self)
        try:
            with log_fields(request_id=self.request_id, video_id=self.video_id):
                yield
        finally:
            _current.reset(token)


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def request_id_of(given: str | None) -> str:
    """Return the request ID that a client sent, or a new one if it sent none or an invalid one.

    >>> request_id_of("abc-1")
    'abc-1'
    >>> len(request_id_of("no spaces, please"))
    32
    """
    return given if given is not None and _VALID_ID.fullmatch(given) else uuid.uuid4().hex
