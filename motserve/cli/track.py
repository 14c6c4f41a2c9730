"""`motserve track`: one video or image folder, tracked in this process."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.config import Config
from motserve.files import replacing
from motserve.local import LocalModels
from motserve.pipeline import PipelineStats, track_frames
from motserve.postprocessing import Finisher, LookBook
from motserve.provenance import describe_files, stamp, write_stamp
from motserve.results import SUFFIXES, Format, ResultWriter, export, read_lines, read_results
from motserve.video import VideoInfo, annotate_video, open_video

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class _Outcome:
    info: VideoInfo
    models: dict[str, Any]
    stats: PipelineStats
    seconds: float

    @property
    def summary(self) -> dict[str, Any]:
        return {"status": "done", **asdict(self.stats), "fps": round(self.stats.frames / max(self.seconds, 1e-9), 2)}


def track(
    video: Annotated[Path, typer.Argument(help="Video file or image folder (MOTChallenge sequence).")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the results; runs/<name of the video>.")] = None,
    format: Annotated[Format, typer.Option(help="Format of the tracks.")] = "json",  # noqa: A002
    save_video: Annotated[bool, typer.Option("--save-video", help="Write annotated.mp4 too.")] = False,
) -> None:
    """Track every person in VIDEO."""
    settings = read_config(config, overrides)
    folder = output or Path("runs") / video.resolve().stem
    target = folder / f"tracks{SUFFIXES[format]}"
    with _progress() as progress:
        models, lines, outcome = _track_to_lines(video, folder, settings, progress)
        try:
            head = {"name": video.name, **asdict(outcome.info)}
            provenance = stamp(settings, weights=outcome.models, data={video.name: describe_files([video])})
            with replacing(target) as partial, partial.open("wb") as file:
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
                _draw(video, lines, folder / "annotated.mp4", models, settings, progress)
        finally:
            lines.unlink()
    console.print(_table(video, outcome, target, folder / "annotated.mp4" if save_video else None))


def _track_to_lines(
    video: Path, folder: Path, settings: Config, progress: Progress
) -> tuple[LocalModels, Path, _Outcome]:
    """Track into a file of lines beside the result, which memory does not have to hold."""
    with open_video(video, settings.video) as source:
        models, finisher = LocalModels(settings), Finisher(settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"{folder} cannot be made: {error.strerror}", param_hint="--output") from error
        lines = folder / f".tracks.{secrets.token_hex(4)}.ndjson"
        stats, book = PipelineStats(), finisher.book((source.info.width, source.info.height))
        task = progress.add_task("tracking", total=source.info.frame_count, speed="")

        async def run() -> float:
            started = time.monotonic()
            info = source.info
            size = (info.width, info.height)
            chunks = track_frames(
                source.frames(), models.detect, models.embed, settings, stats, info.rate_hz, size,
                witness=book.add if book else None, embed_boxes=models.embed_boxes,
            )  # fmt: skip
            async with aclosing(chunks):
                async for chunk in chunks:
                    results.append(chunk)
                    seconds = time.monotonic() - started
                    progress.update(task, completed=stats.frames, speed=f"{stats.frames / seconds:.1f} frames/s")
            return time.monotonic() - started

        try:
            with ResultWriter(lines, models.class_names) as results:
                seconds = asyncio.run(run())
            if finisher:
                stats.identities = _finish(lines, models, finisher, book)
        except BaseException:
            lines.unlink(missing_ok=True)
            with suppress(OSError):  # a folder that holds something stays
                folder.rmdir()
            raise
        progress.update(task, total=stats.frames)
        used = {**models.models, **finisher.weights}
        return models, lines, _Outcome(source.info, used, stats, seconds)


def _finish(lines: Path, models: LocalModels, finisher: Finisher, book: LookBook | None) -> int:
    """Finish a file of lines in place, and return how many identities are left in it."""
    frames = finisher(list(read_results(lines, models.class_names)), book)
    with replacing(lines) as partial, ResultWriter(partial, models.class_names) as results:
        results.append(frames)
    return len({identity for frame in frames for identity in frame.identities.tolist()})


def _draw(video: Path, lines: Path, target: Path, models: LocalModels, settings: Config, progress: Progress) -> None:
    task: TaskID = progress.add_task("drawing", total=None, speed="")
    annotate_video(
        video,
        read_results(lines, models.class_names),
        target,
        settings.video,
        models.class_names,
        progress=lambda done, total: progress.update(task, completed=done, total=total),
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


def _table(video: Path, outcome: _Outcome, target: Path, annotated: Path | None) -> Table:
    table = Table(title=escape(video.name), show_header=False)
    stats, info = outcome.stats, outcome.info
    table.add_row("video", f"{info.width}x{info.height}, {info.codec}")
    table.add_row("frames", f"{stats.frames} in {outcome.seconds:.1f} s, {outcome.summary['fps']} frames/s")
    table.add_row("identities", f"{stats.identities}, {stats.links} returns recognised")
    table.add_row("embeddings", str(stats.embeddings))
    for role, weights in outcome.models.items():
        if weights:
            table.add_row(role, f"{escape(weights['name'])} {weights['sha256'][:12]}")
            if weights["fallback"]:
                table.add_row("", f"[yellow]fallback: {escape(weights['fallback'])}[/]")
    table.add_row("tracks", escape(str(target)))
    if annotated:
        table.add_row("video with tracks", escape(str(annotated)))
    return table
