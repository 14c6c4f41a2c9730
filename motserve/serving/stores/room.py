"""Room on the disk of the service: looked at before something is stored, and while a video is tracked.

What is said here goes to clients, so it names the setting and no place on this machine.
"""

from __future__ import annotations

import asyncio

from motserve.config import Config
from motserve.errors import DiskFull
from motserve.files.disk import free_bytes, is_full, megabytes


async def require_room_for(config: Config, size: int) -> None:
    """Refuse what is to be stored where less than `disk.min_free_bytes` would be left beside it.

    Args:
        config: The configuration.
        size: Bytes that are to be stored, as far as they are known.

    Raises:
        DiskFull: There is less room.
    """
    free = await _free(config)
    if free < size + config.disk.min_free_bytes:
        raise DiskFull(
            f"the disk of the service has {megabytes(free)} left, and {megabytes(size)} are to be stored besides "
            f"{megabytes(config.disk.min_free_bytes)} that stay free (disk.min_free_bytes); delete videos or try later"
        )


async def require_reserve(config: Config, frames: int) -> None:
    """End a video before the disk is so full that not even this could be recorded.

    Args:
        config: The configuration.
        frames: Frames tracked.

    Raises:
        DiskFull: Less than `disk.reserve_bytes` is left.
    """
    free = await _free(config)
    if free < config.disk.reserve_bytes:
        raise _stopped(frames, f"has {megabytes(free)} left (disk.reserve_bytes)")


def as_disk_full(error: Exception, frames: int) -> DiskFull | None:
    """Return what a failure means if it is that of a full disk, else None."""
    return _stopped(frames, "has no room left") if is_full(error) else None


def _stopped(frames: int, state: str) -> DiskFull:
    return DiskFull(
        f"tracking stopped after frame {frames}: the disk of the service (serving.storage_dir) {state}; post the video "
        "again when there is room"
    )


async def _free(config: Config) -> int:
    return await asyncio.to_thread(free_bytes, config.serving.storage_dir)
