"""The files of each video: upload, tracks, checkpoints and the annotated video."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path
from typing import Final

VIDEOS_FOLDER: Final = "videos"
_VIDEO_ID: Final = re.compile("[0-9a-f]{32}")


class ArtifactStore:
    """The files of the videos, each in a folder of its own.

    Args:
        root: Storage folder of the service; the folders of the videos are in its `videos`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / VIDEOS_FOLDER

    def create(self, video_id: str) -> Path:
        """Make the folder of a new video and return it.

        Raises:
            OSError: The folder cannot be made; `ENODEV` if the storage is not there.
        """
        folder = self._root / video_id
        if not self._root.parent.is_dir():  # with its parents it would be made on another disk
            raise OSError(errno.ENODEV, "the storage is not there", str(self._root.parent))
        self._root.mkdir(exist_ok=True)
        folder.mkdir()
        return folder

    def source(self, video_id: str) -> Path:
        """Return the path of an uploaded video."""
        return self._root / video_id / "source"

    def results(self, video_id: str) -> Path:
        """Return the path of the tracks: one line of JSON per frame."""
        return self._root / video_id / "tracks.ndjson"

    def checkpoint(self, video_id: str, attempt: int) -> Path:
        """Return the path of the checkpoint of an attempt."""
        return self._root / video_id / f"checkpoint-{attempt}.npz"

    def checkpoints(self, video_id: str) -> list[Path]:
        """Return the existing checkpoints, the latest attempt first."""
        paths = self._root.glob(f"{video_id}/checkpoint-*.npz")
        return sorted(paths, key=attempt_of, reverse=True)

    def annotated(self, video_id: str) -> Path:
        """Return the path of the annotated video."""
        return self._root / video_id / "annotated.mp4"

    def videos(self) -> list[str]:
        """Return the videos that have a folder; folders whose name is no video ID are ignored."""
        names = [path.name for path in self._root.iterdir()] if self._root.exists() else []
        return [name for name in names if _VIDEO_ID.fullmatch(name)]

    def remove_abandoned(self, video_id: str, since: float) -> bool:
        """Remove the files of a video that has no row, if a killed upload left them.

        A folder with tracks stays: its video had a row, which a restored backup of the store may bring back.

        Args:
            video_id: The video.
            since: Seconds since the epoch; files changed later may belong to a running upload.

        Returns:
            Whether they were removed.
        """
        folder = self._root / video_id
        try:
            changed = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if changed >= since or self.results(video_id).exists():
                return False
        except OSError:  # it is changing, or cannot be read
            return False
        self.delete(video_id)
        return not folder.exists()

    def delete(self, video_id: str) -> None:
        """Remove all files of a video, if it has any."""
        shutil.rmtree(self._root / video_id, ignore_errors=True)


def attempt_of(checkpoint: Path) -> int:
    """Return the attempt in the name of a checkpoint."""
    return int(checkpoint.stem.rpartition("-")[2])
