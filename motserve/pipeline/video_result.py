"""The tracks of a whole video: counts, tables, files and the annotated video."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Literal

from motserve.config import Config
from motserve.config.paths import local_path
from motserve.errors import InvalidConfig, InvalidVideo
from motserve.files.atomic import replacing
from motserve.files.disk import translate_disk_full
from motserve.models.extras import import_package
from motserve.models.provenance import stamp
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.progress import OnProgress
from motserve.pipeline.source_file import SourceFile
from motserve.results import SUFFIXES, Format, export, read_lines, read_results
from motserve.results.table import to_columns
from motserve.types import TrackedFrame
from motserve.video import VideoInfo, annotate_video

_DATAFRAMES = ("pandas", "polars")


class LinesFile:
    """A file with a line for each frame, in a temporary folder that is removed with the last reference to it.

    Args:
        path: A file that its owner removes; None for a temporary one.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            folder = Path(tempfile.mkdtemp(prefix="motserve-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = folder / "tracks.ndjson"
        self.path = path


@dataclass(frozen=True, eq=False, repr=False)
class VideoResult:
    """The tracks of a whole video. They are stored in a temporary file until the result is forgotten.

    Attributes:
        file: The video.
        config: Configuration of the run.
        info: Size, rate and length of the video.
        class_names: Name of each class index of the detector.
        models: Weights used, by role.
        stats: Counters.
        seconds: Time that tracking took.
        frames_damaged: Frames that could not be decoded, or were decoded with damage.
        frames_reused: Frames whose detections were cached by an earlier run.
        warnings: What may make the tracks wrong, in words.
        error: Why the video is incomplete; the tracks before that are here. None for a whole video.
        data: Number, size and checksum of the files behind the tracks; see `describe_data`.
    """

    file: SourceFile
    config: Config
    info: VideoInfo
    class_names: Mapping[int, str]
    models: Mapping[str, Mapping[str, str] | None]
    stats: PipelineStats
    seconds: float
    frames_damaged: int
    frames_reused: int
    warnings: tuple[str, ...]
    error: InvalidVideo | None
    data: Mapping[str, Mapping[str, Any]]
    _lines: LinesFile

    def __repr__(self) -> str:
        summary = self.summary
        return (
            f"<VideoResult {self.name}: {summary['status']}, {summary['frames']} frames, {summary['identities']} "
            "identities>"
        )

    @property
    def name(self) -> str:
        """Name of the video, with unprintable characters escaped."""
        return self.file.name

    @property
    def source(self) -> Path | str:
        """Path of the video, or its address without user name, password and tokens."""
        return self.file.given

    @property
    def summary(self) -> dict[str, Any]:
        """Status (`done`, or `incomplete` with `error`), counts of frames and identities, frames/s, and warnings."""
        status = {"status": "done"} if self.error is None else {"status": "incomplete", "error": str(self.error)}
        return {
            **status,
            **asdict(self.stats),
            "frames_damaged": self.frames_damaged,
            "frames_reused": self.frames_reused,
            "warnings": list(self.warnings),
            "fps": round(self.stats.frames / max(self.seconds, 1e-9), 2),
        }

    @property
    def frames(self) -> Iterator[TrackedFrame]:
        """The frames in order, read one at a time; each use begins at the first. They have no pictures.

        Boxes, confidences and timestamps are rounded as in the exported files.
        """
        return self._read()

    def _read(self) -> Iterator[TrackedFrame]:
        """Yield the stored frames; a generator of the result keeps the result, and so the file, alive."""
        yield from read_results(self._lines.path, self.class_names)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code, settings, weights, video, machine and time behind the tracks."""
        notes = {"incomplete": str(self.error)} if self.error else None
        return stamp(self.config, weights=dict(self.models), data=self.data, notes=notes)

    def to_dataframe(self, library: Literal["pandas", "polars"] | None = None) -> Any:
        """Return the tracks as a data frame, a row for each track of each frame, with the columns of the CSV export.

        Args:
            library: `pandas` or `polars`; None for the one that is installed, pandas if both are.

        Raises:
            InvalidConfig: None of them is installed.
        """
        if library is not None and library not in _DATAFRAMES:
            raise InvalidConfig(f"library must be {' or '.join(_DATAFRAMES)}, not {library!r:.80}")
        columns = to_columns(read_lines(self._lines.path))
        kind, module = _dataframe_library(library)
        if kind == "polars":
            whole = ("frame", "identity", "track", "reidentified_from")
            texts = ("class", "state")
            types = {
                name: module.Int64 if name in whole else module.String if name in texts else module.Float64
                for name in columns
            }
            return module.DataFrame(columns, schema=types)
        frame = module.DataFrame(columns)
        whole_or_missing = {"reidentified_from": "Int64", "distance": "Float64", "gap_s": "Float64"}
        return frame.astype(whole_or_missing)

    def save(self, path: str | Path) -> Path:
        """Write the tracks to a file, whole or not at all. An existing file is replaced.

        Args:
            path: The file; its suffix gives the format: `.json`, `.ndjson`, `.csv`, or `.txt` for MOTChallenge rows.

        Returns:
            The path.

        Raises:
            InvalidConfig: The suffix names no format, or the file is the video itself.
            DiskFull: The disk has no free space.
        """
        target = self._target(path)
        formats: dict[str, Format] = {suffix: name for name, suffix in SUFFIXES.items()}
        if target.suffix.lower() not in formats:
            raise InvalidConfig(f"{target}: tracks are written to {', '.join(sorted(formats))}")
        with translate_disk_full(target):
            self.export(target, formats[target.suffix.lower()])
        return target

    def annotate(self, path: str | Path, progress: OnProgress | None = None) -> Path:
        """Write the video with boxes and identities drawn, as MP4, whole or not at all. The video is decoded again.

        Args:
            path: The file.
            progress: Called after each frame.

        Returns:
            The path.

        Raises:
            InvalidConfig: The file is the video itself, or its suffix is not `.mp4`.
            InvalidVideo: The video has changed or is gone.
            DiskFull: The disk has no free space.
        """
        target = self._target(path)
        if target.suffix.lower() != ".mp4":
            raise InvalidConfig(f"{target}: the annotated video is written to .mp4")
        with translate_disk_full(target):
            self.draw(target, progress)
        return target

    def export(self, target: Path, format: Format) -> None:  # noqa: A002 - the name that every caller uses for it
        """Write the tracks as `save` does, in a given format, to a file that the caller chose.

        Raises:
            OSError: The file cannot be written.
        """
        with replacing(target) as partial, partial.open("wb") as file:
            file.writelines(
                export(
                    read_lines(self._lines.path),
                    format,
                    video={"name": self.name, **asdict(self.info)},
                    models=dict(self.models),
                    summary=self.summary,
                    provenance=self.provenance if format == "json" else None,
                )
            )

    def draw(self, target: Path, progress: OnProgress | None = None) -> None:
        """Write the annotated video as `annotate` does, to a file that the caller chose.

        Raises:
            InvalidVideo: The video has changed or is gone.
            OSError: The file cannot be written.
        """
        if self.file.has_changed():
            raise InvalidVideo(f"{self.name} has changed since it was tracked; track it again")
        annotate_video(
            self.file.path(),
            self.frames,
            target,
            self.config.video,
            self.class_names,
            progress=progress,
            max_frames=self.stats.frames if self.error else None,
        )

    def _target(self, path: str | Path) -> Path:
        """Return the path of a file to write.

        Raises:
            InvalidConfig: It cannot be written there.
        """
        try:
            target = local_path(path)
        except ValueError as error:
            raise InvalidConfig(str(error)) from error
        if target.is_symlink():
            target = target.resolve()  # writing replaces the file, not the link
        if target.is_dir():
            raise InvalidConfig(f"{target} is a folder; name a file in it")
        if not target.parent.is_dir():
            raise InvalidConfig(f"{target}: there is no folder {target.parent}")
        source = self.file.path()
        if target.exists() and source.exists() and target.samefile(source):
            raise InvalidConfig(f"{target} is the video itself; choose another file")
        return target

    def _repr_html_(self) -> str:
        """Show a short table in a notebook."""
        rows = {
            "video": f"{self.name}, {self.info.width}x{self.info.height}, {self.info.codec}",
            **{key: str(self.summary[key]) for key in ("status", "frames", "identities", "links", "fps")},
        }
        if self.error is not None:
            rows["error"] = str(self.error)
        cells = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows.items())
        return f"<table>{cells}</table>"


def _dataframe_library(library: str | None) -> tuple[str, Any]:
    wanted = [library] if library else list(_DATAFRAMES)
    for name in wanted:
        try:
            return name, import_package(name, "to_dataframe")
        except InvalidConfig:
            if library:
                raise
    raise InvalidConfig("to_dataframe needs pandas or Polars: pip install pandas")
