"""The file behind a source: a path, or the temporary copy of a video at an HTTP address."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

from motserve.config import Config
from motserve.config.paths import local_path
from motserve.errors import InvalidConfig, InvalidVideo
from motserve.files.addresses import address_advice, is_web_address, remote_name
from motserve.files.disk import translate_disk_full
from motserve.files.folders import named
from motserve.files.names import readable
from motserve.models.credentials import without_credentials
from motserve.models.provenance import describe_files
from motserve.pipeline.progress import ignore
from motserve.video import check_source
from motserve.video.images.folder import list_images
from motserve.video.images.seqinfo import SEQINFO
from motserve.video.remote import OnReceived, download_video

_Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and time of the last change of each file."""


class SourceFile:
    """The file of a video. One at an address is downloaded at its first use and removed with the last reference to it.

    Args:
        source: Path or HTTP address.
        config: `video.download_timeout_s` and `disk.min_free_bytes` are used.

    Attributes:
        given: The path, or the address without user name, password and tokens.

    Raises:
        NotFound: There is nothing at the path.
        InvalidVideo: It is neither a file nor a folder.
        InvalidConfig: It is no path, or an address that is not supported.
    """

    def __init__(self, source: str | os.PathLike[str], config: Config) -> None:
        self._config, self._lock = config, Lock()
        self._url: str | None = None
        self._path: Path | None = None
        self._described: tuple[_Fingerprint, dict[str, Any]] | None = None
        text = os.fsdecode(source)
        if is_web_address(text):
            self._url = text
            self.given: Path | str = without_credentials(text)
            self._name = remote_name(text)
            return
        advice = address_advice(text)
        if advice is not None:
            raise InvalidConfig(f"{without_credentials(text)}: {advice}")
        try:
            self._path = self.given = local_path(text)
        except ValueError as error:
            raise InvalidConfig(str(error)) from error
        check_source(self._path)
        self._name = named(self._path).name or str(self._path)

    @property
    def name(self) -> str:
        """Name of the video, with unprintable characters escaped."""
        return readable(self._name)

    @property
    def is_remote(self) -> bool:
        """Whether the video is at an address."""
        return self._url is not None

    @property
    def description(self) -> dict[str, Any]:
        """Number, size and checksum of the file, or of the pictures of a folder with their names; see `describe_files`.

        It is computed at its first use, and again once a file has changed.

        Raises:
            InvalidVideo: A file cannot be read.
        """
        path, fingerprint = self.path(), self._fingerprint()
        if self._described is None or self._described[0] != fingerprint:
            try:
                description = describe_files(self._files(), path if path.is_dir() else None)
            except OSError as error:
                raise self._unreadable(error) from error
            self._described = fingerprint, description
        return self._described[1]

    def has_changed(self) -> bool:
        """Return whether the video is no longer the one that `description` describes."""
        try:
            return self._described is not None and self._described[0] != self._fingerprint()
        except InvalidVideo:
            return True

    def path(self, on_received: OnReceived = ignore) -> Path:
        """Return the path of the file, after downloading it if necessary.

        Args:
            on_received: Called after each part of a download.

        Raises:
            NotFound: There is no such video.
            InvalidVideo: It cannot be downloaded.
            InvalidConfig: The proxy of the environment is not supported.
            DiskFull: The disk of temporary files has no free space.
        """
        with self._lock:
            if self._path is None:
                assert self._url is not None
                folder = Path(tempfile.mkdtemp(prefix="motserve-"))
                remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                try:
                    with translate_disk_full(folder):
                        self._path = download_video(
                            self._url,
                            folder,
                            self._config.video.download_timeout_s,
                            self._config.disk.min_free_bytes,
                            on_received,
                        )
                except BaseException:
                    remove()
                    raise
            return self._path

    def _files(self) -> list[Path]:
        """Return the files that the frames are read from; tracking ends at a picture that cannot be read."""
        path = self.path()
        files = [*list_images(path), path / SEQINFO] if path.is_dir() else [path]
        return [file for file in files if os.access(file, os.R_OK)]

    def _fingerprint(self) -> _Fingerprint:
        """Return numbers that change when a file is written or replaced; the files are not read."""
        try:
            statuses = [(file, file.stat()) for file in self._files()]
        except OSError as error:
            raise self._unreadable(error) from error
        return tuple((str(file), status.st_ino, status.st_size, status.st_mtime_ns) for file, status in statuses)

    def _unreadable(self, error: OSError) -> InvalidVideo:
        return InvalidVideo(f"{self.name} cannot be read: {error.filename}: {error.strerror}")


def describe_data(video: SourceFile, detections: Path | None) -> dict[str, dict[str, Any]]:
    """Return number, size and checksum of the files that tracks are made from, for their provenance.

    Args:
        video: The video.
        detections: The file that detections are read from; None for others.
    """
    data = video.description
    if detections is not None:
        data = {**data, "detections": {"file": readable(detections.name), **describe_files([detections])}}
    return {video.name: data}
