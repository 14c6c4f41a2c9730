"""Free space on the disk of the service: checked before something is stored, and while a video is tracked.

The messages go to clients, so they name settings and no paths.
"""

from __future__ import annotations

import asyncio

from motserve.config import Config
from motserve.errors import DiskFull
from motserve.files.disk import free_bytes, is_full, megabytes


async def require_room_for(config: Config, size: int) -> None:
    """Check that at least `disk.min_free_bytes` stay free after something is stored.

    Args:
        config: The configuration.
        size: Bytes to store, as far as known.

    Raises:
        DiskFull: There is not enough space.
    """
    free = await _free(config)
    if free < size + config.disk.min_free_bytes:
        raise DiskFull(
            f"the disk of the service has {megabytes(free)} left, {megabytes(size)} are to be stored, and "
            f"{megabytes(config.disk.min_free_bytes)} must stay free (disk.min_free_bytes); delete videos or try later"
        )


async def require_reserve(config: Config, frames: int) -> None:
    """Stop a video before the disk is too full to record the failure.

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
    """Return a `DiskFull` error for an error caused by a full disk, else None."""
    return _stopped(frames, "has no room left") if is_full(error) else None


def _stopped(frames: int, state: str) -> DiskFull:
    return DiskFull(
        f"tracking stopped after frame {frames}: the disk of the service (serving.storage_dir) {state}; post the video "
        "again when there is room"
    )


async def _free(config: Config) -> int:
    return await asyncio.to_thread(free_bytes, config.serving.storage_dir)
