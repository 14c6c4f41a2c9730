"""`motserve track`: tracks videos and image folders in this process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.cli.output.terminal import WholeConsole, say_error
from motserve.cli.output.video_progress import video_progress
from motserve.cli.paths import read_source
from motserve.errors import Conflict, InvalidConfig, InvalidData, InvalidVideo, MotserveError, NotFound
from motserve.files.addresses import remote_name
from motserve.files.disk import annotated_size, require_room, translate_disk_full
from motserve.files.folders import named
from motserve.files.names import readable, to_json
from motserve.results import SUFFIXES, Format
from motserve.results.run_folder import ANNOTATED, RUN_FILES, TRACKS, open_run_folder, run_name, runs_of

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.pipeline.video_result import VideoResult
    from motserve.pipeline.video_run import VideoRun

console = WholeConsole(stderr=True)

_RUNS: Final = Path("runs")

_SMALL: Final = {
    "bundled": "small, misses people; not for commercial use; docs/weights.md names better ones",
    "bundled-free": "small, misses people; docs/weights.md names better ones",
}

_OF_ONE_VIDEO: Final = (InvalidVideo, InvalidData, NotFound, Conflict)
"""Errors after which the other videos are still tracked."""


@dataclass(frozen=True, slots=True)
class _Options:
    """What to do with each video.

    Attributes:
        output: Folder of the results; for several videos, the folder of their folders. None for `runs`.
        is_single: Whether there is one video, whose results are in `output` itself.
    """

    output: Path | None
    is_single: bool
    overwrite: bool
    resume: bool
    format: Format
    save_video: bool
    as_json: bool
    is_quiet: bool

    def folder(self, name: str) -> Path | None:
        """Return the folder for the results of a run; None for a new one in `parent`."""
        if self.is_single and self.output is not None:
            return self.output
        return self.parent / name if self.overwrite else None

    def earlier(self, name: str) -> list[Path]:
        """Return the folders of earlier runs, the latest first."""
        return [self.output] if self.is_single and self.output is not None else runs_of(self.parent, name)

    @property
    def files(self) -> list[str]:
        """Names of the files of a complete run, the tracks first."""
        return [f"{TRACKS}{SUFFIXES[self.format]}", *([ANNOTATED] if self.save_video else [])]

    @property
    def parent(self) -> Path:
        """Folder of the folders of runs."""
        return _RUNS if self.output is None else self.output


def track(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO...",
            help="Video files, image folders (MOTChallenge sequences), folders of videos, patterns such as '*.mp4', or "
            "HTTP addresses of video files.",
        ),
    ],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Weights of the detector, short for --set detector.weights=….")
    ] = None,
    tracker: Annotated[str | None, typer.Option("--tracker", help="Name of a tracker, or a YAML file.")] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Classes to track, separated by commas; `all` for every class.")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option("--conf", help="Lowest confidence of detections, short for --set detector.confidence=…."),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            "--detections", help="MOTChallenge file of detections to use in place of the detector; for a single video."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the results; by default a new one, runs/<name of the video>, then -2, -3, …. Several "
            "videos get a folder each inside it.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the files of an earlier run of the same name; other files stay."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip the videos that an earlier run has finished with the same settings. In any case, the detections "
            "of an interrupted video are cached and not computed again.",
        ),
    ] = False,
    format: Annotated[Format, typer.Option(help="Format of the tracks.")] = "json",  # noqa: A002
    save_video: Annotated[bool, typer.Option("--save-video", help="Also write annotated.mp4.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each video on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Track every person in VIDEO.

    The models are loaded once for all videos. If a video turns out to be broken, the tracks up to that point are kept
    and marked, and the other videos are still tracked; the exit code is 3.
    """
    short = [] if classes is None else [f"detector.classes={json.dumps([name.strip() for name in classes.split(',')])}"]
    short += [] if confidence is None else [f"detector.confidence={confidence}"]
    settings = read_config(config, [*short, *(overrides or [])], model=model, tracker=tracker)
    from motserve.video.listing import list_videos

    sources = [read_source(given) for given in videos]
    listed: list[str | Path] = []
    for source in sources:
        listed += [source] if isinstance(source, str) else list_videos(source)
    listed = list(dict.fromkeys(listed))
    is_single = listed == sources and len(sources) == 1
    if detections is not None and not is_single:
        raise InvalidConfig("--detections is for a single video; each video has a file of its own")
    options = _Options(output, is_single, overwrite, resume, format, save_video, as_json, quiet)
    tracked = _Videos(settings, options, detections)
    if is_single:
        tracked.track_one(listed[0])
    else:
        tracked.track_all(listed)


class _Videos:
    """Tracks videos one after the other with the same models."""

    def __init__(self, settings: Config, options: _Options, detections: Path | None) -> None:
        self._settings, self._options = settings, options
        self._detections = detections
        self._first: VideoRun | None = None

    def track_one(self, video: str | Path) -> None:
        """Track a video.

        Raises:
            MotserveError: It failed.
        """
        if error := self._track(video):
            raise error

    def track_all(self, videos: Sequence[str | Path]) -> None:
        """Track several videos; one that fails does not stop the others.

        Raises:
            MotserveError: A video failed.
        """
        names = Counter(map(_run_name, videos))
        name, count = names.most_common(1)[0]
        if self._options.overwrite and count > 1:
            raise InvalidConfig(f"{count} videos are named {name}; --overwrite would replace one by another")
        failures: list[MotserveError] = []
        for video in videos:
            if error := self._track(video):
                failures.append(error)
                say_error(str(error))
        if failures:
            raise type(failures[0])(f"{len(failures)} of {len(videos)} videos failed")

    def _track(self, video: str | Path) -> MotserveError | None:
        """Track a video, and return why it failed or is incomplete; None for a whole one."""
        try:
            return self._track_to_folder(video)
        except _OF_ONE_VIDEO as error:
            if self._options.as_json:
                _print_json({"video": _name(video), "status": "failed", "error": str(error)})
            return error

    def _track_to_folder(self, video: str | Path) -> MotserveError | None:
        """Track a video into a run folder of its own.

        Returns:
            Why the video is incomplete; None for a whole one.
        """
        from motserve.models.provenance import write_stamp
        from motserve.pipeline.video_result import LinesFile

        options, name = self._options, _run_name(video)
        run = self._open(video)
        output = options.folder(name)
        _check_places(video, output, options, self._settings)
        with (
            video_progress(console, options.is_quiet) as progress,
            translate_disk_full(output or options.parent),
        ):
            if run.file.is_remote:
                run.file.path(progress.step("downloading", run.file.name, "kB"))
            if options.resume and self._is_finished(run, name):
                return None
            with open_run_folder(output, options.parent, name, options.overwrite) as folder:
                target = folder.staging / options.files[0]
                result = run.run_to(
                    LinesFile(folder.staging / "lines.ndjson"), progress.step("tracking", run.file.name)
                )
                result.export(target, options.format)
                if options.format != "json":
                    write_stamp(target, result.provenance)
                if options.save_video:
                    try:
                        result.draw(folder.staging / ANNOTATED, progress.step("drawing", run.file.name))
                    except BaseException:
                        folder.publish()  # the tracks are complete and cost more than the annotated video
                        console.print(f"[yellow]tracks without video:[/] {escape(readable(folder.path / target.name))}")
                        raise
                folder.publish()
        tracks, annotated = folder.path / target.name, folder.path / ANNOTATED if options.save_video else None
        if not options.is_quiet:
            console.print(_table(result, tracks, annotated))
        if options.as_json:
            _print_json({"video": result.name, **result.summary, **_places(tracks, annotated)})
        return result.error

    def _open(self, video: str | Path) -> VideoRun:
        from motserve.pipeline.detections.given import GivenDetections
        from motserve.pipeline.video_run import VideoRun

        confidence = self._settings.detector.confidence
        given = None if self._detections is None else GivenDetections(self._detections, confidence)
        run = VideoRun(video, self._settings, given, self._first)
        self._first = self._first or run
        return run

    def _is_finished(self, run: VideoRun, name: str) -> bool:
        """Return whether an earlier run has complete tracks of the video, and say where."""
        from motserve.pipeline.finished import find_finished

        options = self._options
        folder = find_finished(options.earlier(name), options.files, run.describe())
        if folder is None:
            return False
        tracks, annotated = folder / options.files[0], folder / ANNOTATED if options.save_video else None
        if not options.is_quiet:
            console.print(f"{escape(run.file.name)}: already tracked, see {escape(readable(tracks))}", soft_wrap=True)
        if options.as_json:
            _print_json({"video": run.file.name, "status": "skipped", **_places(tracks, annotated)})
        return True


def _run_name(video: str | Path) -> str:
    return run_name(Path(remote_name(video)) if isinstance(video, str) else video)


def _name(video: str | Path) -> str:
    return readable(remote_name(video) if isinstance(video, str) else named(video).name)


def _places(tracks: Path, annotated: Path | None) -> dict[str, str | None]:
    return {"tracks": readable(tracks), "annotated": None if annotated is None else readable(annotated)}


def _check_places(video: str | Path, output: Path | None, options: _Options, settings: Config) -> None:
    """Refuse, before anything is loaded, a run that could only fail at its end.

    Raises:
        InvalidConfig: The video is one of the files that the run would replace.
        DiskFull: There is not enough free disk space.
    """
    if (
        output is not None
        and isinstance(video, Path)
        and video.resolve() in [(output / name).resolve() for name in RUN_FILES]
    ):
        raise InvalidConfig(f"{video} is one of the results in {output}; choose another --output")
    least, because = settings.disk.min_free_bytes, "disk.min_free_bytes"
    if options.save_video and isinstance(video, Path):
        least += annotated_size(video, settings.disk.annotated_share)
        because += " and, for the annotated video, disk.annotated_share of the size of the video"
    require_room(output or options.parent, least, because)


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(to_json(document).decode())


def _table(result: VideoResult, tracks: Path, annotated: Path | None) -> Table:
    table = Table(title=escape(result.name), show_header=False)
    stats, info = result.stats, result.info
    table.add_row("video", f"{info.width}x{info.height}, {info.codec}")
    table.add_row("frames", f"{stats.frames} in {result.seconds:.1f} s, {result.summary['fps']} frames/s")
    if result.frames_damaged:
        table.add_row("", f"[yellow]{result.frames_damaged} more are damaged[/]")
    if result.error:
        table.add_row("", "[yellow]incomplete, see the error[/]")
    if result.frames_reused:
        table.add_row("detections", f"of {result.frames_reused} frames from an earlier run")
    table.add_row("identities", f"{stats.identities}, {stats.links} returns recognised")
    table.add_row("embeddings", str(stats.embeddings))
    for role, weights in result.models.items():
        if weights:
            backend = f", {weights['backend']}" if weights.get("backend") else ""
            table.add_row(role, f"{escape(weights['name'])} {weights['sha256'][:12]}{backend}")
            if weights["fallback"]:
                table.add_row("", f"[yellow]fallback: {escape(weights['fallback'])}[/]")
            if weights["name"] in _SMALL:
                table.add_row("", f"[yellow]{weights['name']}: {_SMALL[weights['name']]}[/]")
    for warning in result.warnings:
        table.add_row("", f"[yellow]{escape(warning)}[/]")
    table.add_row("tracks", escape(readable(tracks)))
    if annotated:
        table.add_row("video with tracks", escape(readable(annotated)))
    return table
