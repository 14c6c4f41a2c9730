"""The files of each video: upload, tracks, checkpoints and the annotated video."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

VIDEOS_FOLDER: Final = "videos"
_VIDEO_ID: Final = re.compile("[0-9a-f]{32}")


class ArtifactStore:
    """The files of each video, in a folder of its own.

    Args:
        root: Folder of the service; the videos' folders are in `videos` below it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / VIDEOS_FOLDER

    def create(self, video_id: str) -> Path:
        """Make the folder of a new video and return it."""
        folder = self._root / video_id
        folder.mkdir(parents=True)
        return folder

    def source(self, video_id: str) -> Path:
        """Return the path of an uploaded video."""
        return self._root / video_id / "source"

    def results(self, video_id: str) -> Path:
        """Return the path of the tracks, one line of JSON a frame."""
        return self._root / video_id / "tracks.ndjson"

    def checkpoint(self, video_id: str, attempt: int) -> Path:
        """Return the path of the checkpoint that the session of an attempt writes."""
        return self._root / video_id / f"checkpoint-{attempt}.npz"

    def checkpoints(self, video_id: str) -> list[Path]:
        """Return the checkpoints that are there, the latest attempt first."""
        found = self._root.glob(f"{video_id}/checkpoint-*.npz")
        return sorted(found, key=attempt_of, reverse=True)

    def annotated(self, video_id: str) -> Path:
        """Return the path of the annotated video."""
        return self._root / video_id / "annotated.mp4"

    def videos(self) -> list[str]:
        """Return the videos that have a folder; folders of other names are somebody else's."""
        names = [path.name for path in self._root.iterdir()] if self._root.exists() else []
        return [name for name in names if _VIDEO_ID.fullmatch(name)]

    def remove_abandoned(self, video_id: str, since: float) -> bool:
        """Remove the files of a video that has no row, if they are what an upload leaves that was killed.

        Files among which there are tracks stay: they had a row once, which may come back with a backup of the store.

        Args:
            video_id: The video.
            since: Seconds since the epoch; files that were written to later may be of an upload that is under way.

        Returns:
            Whether they were removed.
        """
        folder = self._root / video_id
        try:
            changed = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if changed >= since or self.results(video_id).exists():
                return False
        except OSError:  # it changes just now, or cannot be read
            return False
        self.delete(video_id)
        return not folder.exists()

    def delete(self, video_id: str) -> None:
        """Remove all files of a video; none is no error."""
        shutil.rmtree(self._root / video_id, ignore_errors=True)


def attempt_of(checkpoint: Path) -> int:
    """Return the attempt that writes a checkpoint of this path."""
    return int(checkpoint.stem.rpartition("-")[2])
