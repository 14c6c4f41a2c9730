"""Recognises addresses such as `https://…` where a path is expected."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LIVE: Final = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms", "webrtc"})
_WEB: Final = frozenset({"http", "https"})
_LONGEST_NAME: Final = 200  # bytes


def is_web_address(text: str) -> bool:
    """Return whether a text is an HTTP or HTTPS address, and not the path of an existing file.

    >>> is_web_address("https://example.com/people.mp4"), is_web_address("people.mp4")
    (True, False)
    """
    return _scheme(text) in _WEB


def remote_name(url: str) -> str:
    """Return the file name of a video at an address.

    >>> remote_name("https://example.com/shop/people%201.mp4?token=abc"), remote_name("https://example.com/")
    ('people 1.mp4', 'video')
    """
    try:
        name = PurePosixPath(unquote(urlsplit(url).path)).name.replace("\0", "")
    except ValueError:  # malformed, which the download reports
        name = ""
    encoded = name.encode(errors="ignore")[-_LONGEST_NAME:]  # the end has the suffix
    return encoded.decode(errors="ignore").lstrip(".") or "video"


def address_advice(text: str) -> str | None:
    """Return what to do instead of giving an address where only a path is taken; None for a path.

    Args:
        text: A path or an address. A path of an existing file may look like an address.

    >>> address_advice("people.mp4")
    >>> address_advice("file:///videos/people.mp4")
    'give the path itself, /videos/people.mp4'
    """
    scheme = _scheme(text)
    if scheme is None:
        return None
    if scheme in _LIVE:
        return "live streams are not supported yet; record the stream to a file, for example with FFmpeg, and give that"
    if scheme == "file":
        return f"give the path itself, {text[len('file://') :]}"
    if scheme in _WEB:
        return "a URL is not taken here; download the file and give its path"
    return f"{scheme}:// is not supported; download the file and give its path"


def _scheme(text: str) -> str | None:
    """Return the scheme of an address, None for a path."""
    address = _ADDRESS.match(text)
    if address is None or os.path.exists(text):  # noqa: PTH110 - Path.exists raises where a name is too long
        return None
    return address[1].lower()
