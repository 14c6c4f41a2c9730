"""Downloads a video from an HTTP address to a folder of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motserve.errors import InvalidConfig, InvalidVideo, NotFound
from motserve.files.addresses import remote_name
from motserve.files.disk import require_room
from motserve.models.credentials import without_credentials

if TYPE_CHECKING:
    import httpx

OnReceived = Callable[[int, int | None], None]
"""Called with the number of kB (1024 bytes) received and the expected total, None where it is not known."""

_MISSING: Final = frozenset({404, 410})
_IDENTITY: Final = "identity"
_UNCOMPRESSED: Final = {"accept-encoding": _IDENTITY}
"""Videos are compressed already, and a few bytes could become gigabytes in memory."""

_ROOM_EVERY_BYTES: Final = 64 << 20
"""The free space is checked again after so many bytes; the server need not tell the size."""


def download_video(url: str, folder: Path, timeout_s: float, min_free_bytes: int, on_received: OnReceived) -> Path:
    """Download a video.

    Args:
        url: The HTTP or HTTPS address; a user name and a password in it are sent to the server only.
        folder: Folder of the file.
        timeout_s: Time in seconds that the server may take to accept the connection or to send the next part.
        min_free_bytes: Space in bytes that has to stay free on the disk.
        on_received: Called after each part.

    Returns:
        Path of the file, named as in the address.

    Raises:
        NotFound: The server has no such file.
        InvalidVideo: The address is malformed, or the server refuses the request, cannot be reached, compresses the
            file or ends the transfer early.
        InvalidConfig: The proxy of the environment is not supported.
        DiskFull: There is not enough free disk space.
    """
    import httpx  # takes a tenth of a second, and most videos are local

    shown = without_credentials(url)
    target, received, checked = folder / remote_name(url), 0, 0
    try:
        with (
            _client(timeout_s) as client,
            client.stream("GET", url, headers=_UNCOMPRESSED) as response,
            target.open("wb") as file,
        ):
            if response.status_code in _MISSING:
                raise NotFound(f"there is no video at {shown}: the server answers {response.status_code}")
            if not response.is_success:
                raise InvalidVideo(f"{shown} cannot be downloaded: the server answers {response.status_code}")
            encoding = response.headers.get("content-encoding", _IDENTITY)
            if encoding.lower() != _IDENTITY:
                raise InvalidVideo(f"{shown} cannot be downloaded: the server compresses it ({encoding:.40})")
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdecimal() else None
            require_room(folder, min_free_bytes + (total or 0), "disk.min_free_bytes and the size of the video")
            for part in response.iter_raw():
                file.write(part)
                received += len(part)
                if received - checked >= _ROOM_EVERY_BYTES:
                    checked = received
                    require_room(folder, min_free_bytes, "disk.min_free_bytes")
                on_received(received >> 10, None if total is None else total >> 10)
    except (httpx.InvalidURL, UnicodeError) as error:  # without the reason, which may quote a part of the password
        raise InvalidVideo(f"{shown} is not a valid address") from error
    except httpx.HTTPError as error:
        reason = without_credentials(str(error)) or type(error).__name__
        raise InvalidVideo(f"{shown} cannot be downloaded: {reason}") from error
    return target


def _client(timeout_s: float) -> httpx.Client:
    """Return a client that uses the proxy of the environment.

    Raises:
        InvalidConfig: The proxy is not supported.
    """
    import httpx

    try:
        return httpx.Client(timeout=timeout_s, follow_redirects=True)
    except (ImportError, ValueError) as error:
        raise InvalidConfig(
            f"the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {without_credentials(str(error))}"
        ) from error
