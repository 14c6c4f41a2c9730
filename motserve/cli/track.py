"""`motserve track`: tracks one video or image folder in this process."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.config import Config
from motserve.errors import InvalidConfig, InvalidVideo, NotFound
from motserve.files.atomic import replacing
from motserve.files.disk import annotated_size, require_room, translate_disk_full
from motserve.files.names import readable
from motserve.models.provenance import describe_files, stamp, write_stamp
from motserve.pipeline import PipelineStats, track_frames
from motserve.pipeline.local_models import LocalModels
from motserve.postprocessing import EmbeddingHistory, PostProcessor
from motserve.results import SUFFIXES, Format, ResultWriter, export, read_lines, read_results
from motserve.results.run_folder import ANNOTATED, RUN_FILES, TRACKS, open_run_folder, run_name
from motserve.video import VideoInfo, annotate_video, open_video

console = Console(stderr=True)

_RUNS: Final = Path("runs")


@dataclass(frozen=True, slots=True)
class _Outcome:
    info: VideoInfo
    models: dict[str, Any]
    stats: PipelineStats
    seconds: float
    frames_damaged: int
    failure: InvalidVideo | None

    @property
    def summary(self) -> dict[str, Any]:
        counts = {
            **asdict(self.stats),
            "frames_damaged": self.frames_damaged,
            "fps": round(self.stats.frames / max(self.seconds, 1e-9), 2),
        }
        if self.failure is None:
            return {"status": "done", **counts}
        return {"status": "incomplete", "error": str(self.failure), **counts}


def track(
    video: Annotated[Path, typer.Argument(help="Video file or image folder (MOTChallenge sequence).")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; by default a new one, runs/<name of the video>, then -2, -3, …"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier run in --output; other files stay.")
    ] = False,
    format: Annotated[Format, typer.Option(help="Format of the tracks.")] = "json",  # noqa: A002
    save_video: Annotated[bool, typer.Option("--save-video", help="Also write annotated.mp4.")] = False,
) -> None:
    """Track every person in VIDEO.

    If the video turns out to be broken, the tracks up to that point are kept and marked; the exit code is 3.
    """
    settings = read_config(config, overrides)
    _check_places(video, output, save_video, settings)
    with (
        _progress() as progress,
        translate_disk_full(output or _RUNS),
        open_run_folder(output, _RUNS, run_name(video), overwrite) as run,
    ):
        target = run.staging / f"{TRACKS}{SUFFIXES[format]}"
        lines = run.staging / "lines.ndjson"
        models, outcome = _track_to_lines(video, lines, settings, progress)
        name = readable(video.name)
        head = {"name": name, **asdict(outcome.info)}
        notes = {"incomplete": str(outcome.failure)} if outcome.failure else None
        provenance = stamp(settings, weights=outcome.models, data={name: describe_files([video])}, notes=notes)
        with target.open("wb") as file:
            file.writelines(
                export(
                    read_lines(lines),
                    format,
                    video=head,
                    models=outcome.models,
                    summary=outcome.summary,
                    provenance=provenance,
                )
            )
        if format != "json":
            write_stamp(target, provenance)
        if save_video:
            try:
                _draw(video, lines, run.staging / ANNOTATED, models, settings, progress, outcome)
            except BaseException:
                run.publish()  # the tracks are complete and cost more than the annotated video
                console.print(f"[yellow]tracks without video:[/] {escape(readable(run.path / target.name))}")
                raise
        run.publish()
    console.print(_table(name, outcome, run.path / target.name, run.path / ANNOTATED if save_video else None))
    if outcome.failure:
        raise outcome.failure


def _check_places(video: Path, output: Path | None, save_video: bool, settings: Config) -> None:
    """Refuse, before anything is loaded, a run that could only fail at its end.

    Raises:
        NotFound: The video is a broken link.
        InvalidVideo: It is neither a file nor a folder.
        InvalidConfig: The video is one of the files that the run would replace.
        DiskFull: There is not enough free disk space.
    """
    if video.is_symlink() and not video.exists():
        raise NotFound(f"there is no video at {video}: it is a link to {video.readlink()}, which does not exist")
    if video.exists() and not video.is_file() and not video.is_dir():
        raise InvalidVideo(f"{video} is a pipe or a device; a video is a file or a folder of pictures")
    if output is not None and video.resolve() in [(output / name).resolve() for name in RUN_FILES]:
        raise InvalidConfig(f"{video} is one of the results in {output}; choose another --output")
    least, because = settings.disk.min_free_bytes, "disk.min_free_bytes"
    if save_video:
        least += annotated_size(video, settings.disk.annotated_share)
        because += " and, for the annotated video, disk.annotated_share of the size of the video"
    require_room(output or _RUNS, least, because)


def _track_to_lines(video: Path, lines: Path, settings: Config, progress: Progress) -> tuple[LocalModels, _Outcome]:
    """Track a video and write the results to a file line by line, so that they need not fit in memory."""
    with open_video(video, settings.video) as source:
        models, postprocessor = LocalModels(settings), PostProcessor(settings)
        stats, history = PipelineStats(), postprocessor.new_history((source.info.width, source.info.height))
        task = progress.add_task("tracking", total=source.info.frame_count, speed="")

        async def run() -> None:
            info = source.info
            size = (info.width, info.height)
            chunks = track_frames(
                source.frames(), models.detect, models.embed, settings, stats, info.rate_hz, size,
                on_embedded=history.add if history else None, embed_boxes=models.embed_boxes,
            )  # fmt: skip
            async with aclosing(chunks):
                async for chunk in chunks:
                    results.append(chunk)
                    seconds = time.monotonic() - started
                    progress.update(task, completed=stats.frames, speed=f"{stats.frames / seconds:.1f} frames/s")

        started, failure = time.monotonic(), None
        with ResultWriter(lines, models.class_names) as results:
            try:
                asyncio.run(run())
            except InvalidVideo as error:
                if not stats.frames:
                    raise
                failure = error
        seconds = time.monotonic() - started
        if postprocessor:
            stats.identities = _postprocess(lines, models, postprocessor, history)
        progress.update(task, total=stats.frames)
        used = {**models.models, **postprocessor.weights}
        return models, _Outcome(source.info, used, stats, seconds, source.frames_damaged, failure)


def _postprocess(
    lines: Path, models: LocalModels, postprocessor: PostProcessor, history: EmbeddingHistory | None
) -> int:
    """Postprocess a file of results in place, and return its number of identities."""
    frames = postprocessor(list(read_results(lines, models.class_names)), history)
    with replacing(lines) as partial, ResultWriter(partial, models.class_names) as results:
        results.append(frames)
    return len({identity for frame in frames for identity in frame.identities.tolist()})


def _draw(
    video: Path,
    lines: Path,
    target: Path,
    models: LocalModels,
    settings: Config,
    progress: Progress,
    outcome: _Outcome,
) -> None:
    task: TaskID = progress.add_task("drawing", total=None, speed="")
    annotate_video(
        video,
        read_results(lines, models.class_names),
        target,
        settings.video,
        models.class_names,
        progress=lambda done, total: progress.update(task, completed=done, total=total),
        max_frames=outcome.stats.frames if outcome.failure else None,
    )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _table(name: str, outcome: _Outcome, target: Path, annotated: Path | None) -> Table:
    table = Table(title=escape(name), show_header=False)
    stats, info = outcome.stats, outcome.info
    table.add_row("video", f"{info.width}x{info.height}, {info.codec}")
    table.add_row("frames", f"{stats.frames} in {outcome.seconds:.1f} s, {outcome.summary['fps']} frames/s")
    if outcome.frames_damaged:
        table.add_row("", f"[yellow]{outcome.frames_damaged} more are damaged[/]")
    if outcome.failure:
        table.add_row("", "[yellow]incomplete, see the error[/]")
    table.add_row("identities", f"{stats.identities}, {stats.links} returns recognised")
    table.add_row("embeddings", str(stats.embeddings))
    for role, weights in outcome.models.items():
        if weights:
            table.add_row(role, f"{escape(weights['name'])} {weights['sha256'][:12]}")
            if weights["fallback"]:
                table.add_row("", f"[yellow]fallback: {escape(weights['fallback'])}[/]")
    table.add_row("tracks", escape(readable(target)))
    if annotated:
        table.add_row("video with tracks", escape(readable(annotated)))
    return table
