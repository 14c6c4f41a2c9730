"""`motserve tune`: searches parameters on one part of the data and reports their scores on held-out data."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from motserve.cli.labelled import DetectionFiles, GroundTruth, Rules, Scores, Videos, labelled_sequences, with_scores
from motserve.cli.options import (
    ConfigFiles,
    Overrides,
    SequenceNames,
    UseMlflow,
    names_of,
    read_config,
    writable_folder,
)
from motserve.cli.output.tables import NumberTable, number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import replacing, write_json
from motserve.files.names import readable
from motserve.models.extras import require_installed

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.tuning.search import Tuned

app = typer.Typer(no_args_is_help=True, help="Search for the best parameters.")
console = WholeConsole()
_status = WholeConsole(stderr=True)

_SHOWN = ("HOTA", "MOTA", "IDF1", "IDSW")


@app.callback()
def tuning() -> None:
    """Search for the best parameters."""


@app.command("tracker")
def tracker(
    gt: GroundTruth,
    detections: DetectionFiles = None,
    scores: Scores = None,
    videos: Videos = None,
    sequences: SequenceNames = None,
    held_out: Annotated[
        str | None,
        typer.Option(help="Held-out sequences, separated by commas; by default the second half of each sequence."),
    ] = None,
    benchmark: Rules = None,
    output: Annotated[
        Path, typer.Option(help="Folder for best.yaml and results.json.", callback=writable_folder)
    ] = Path("runs/tune/tracker"),
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Search `tuning.space` for the parameters that track best, and score them on held-out data."""
    import yaml

    from motserve.lab.evaluation import RATIO_NAMES
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.record import log_run, percent
    from motserve.lab.experiments.scoring import MOT_LIBRARIES
    from motserve.lab.tuning.search import by_name, halves, start_values, tune
    from motserve.models.provenance import stamp
    from motserve.postprocessing import PostProcessor

    settings = with_scores(read_config(config, overrides, writes=[output]), scores, detections)
    cache, models = open_cache(settings), Models(settings)
    loaded = labelled_sequences(models, cache, gt, sequences, detections, videos, benchmark)
    held_out_names = names_of(held_out)
    split = by_name(loaded, held_out_names) if held_out_names else halves(loaded)
    start_values(settings)  # a wrong space is refused before Ray starts
    with _explained_stop(), _ray(settings), _trial_progress(settings) as notify_progress:
        tuned = tune(split, settings, cache, notify_progress)
    provenance = stamp(
        settings,
        weights={
            "detector": None if detections else models.detector_weights.describe(),
            "reid": models.reid_weights.describe() if settings.needs_embeddings else None,
            **PostProcessor(settings).weights,
        },
        data={sequence.name: sequence.describe() for sequence in loaded},
        libraries=(*MOT_LIBRARIES, "optuna", "ray"),
        notes={"held_out": held_out_names or "second half of each sequence"},
        sections=[
            "tracker",
            "reid",
            "regrouping",
            "linking",
            "interpolation",
            "tuning",
            *([] if detections else ["detector"]),
            "video",
        ],
    )
    output.mkdir(parents=True, exist_ok=True)
    best, results = output / "best.yaml", output / "results.json"
    with replacing(best) as partial:
        partial.write_text(yaml.safe_dump(_as_layer(tuned, settings), sort_keys=False), encoding="utf-8")
    write_json(results, {**_document(tuned), "provenance": provenance})
    console.print(_table(tuned))
    console.print(_parameters(tuned, settings))
    written = f"written to {escape(str(output))}: best.yaml, results.json"
    console.print(written, style="dim", highlight=False, soft_wrap=True)
    if mlflow:
        metrics = percent(tuned.scores["best"]["held_out"].scores.as_dict(), RATIO_NAMES)
        for name, value in percent(tuned.scores["best"]["train"].scores.as_dict(), RATIO_NAMES).items():
            metrics[f"train/{name}"] = value
        run = log_run(settings.mlflow, "tune", metrics, provenance, [best, results])
        console.print(f"MLflow run {run}", style="dim", highlight=False)


@contextmanager
def _explained_stop() -> Iterator[None]:
    """Say what a search that is interrupted leaves behind."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        again = f"motserve {shlex.join(sys.argv[1:])}"
        message = f"stopped; nothing is written, a search cannot be resumed; to start again: {again}"
        _status.print(escape(readable(message)), highlight=False, soft_wrap=True)
        raise


@contextmanager
def _ray(settings: Config) -> Iterator[None]:
    """Run Ray, if the search needs it, until the search ends or is interrupted."""
    if settings.tuning.workers == 1:
        yield
        return
    require_installed("ray", "train", f"tuning.workers={settings.tuning.workers}")
    from motserve.cli.running.ray_session import running_ray

    with running_ray(None):
        yield


@contextmanager
def _trial_progress(settings: Config) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_status, transient=True, disable=not _status.is_terminal) as bar:
        task = bar.add_task("searching", total=settings.tuning.trials)

        def notify_progress(number: int, best: float | None) -> None:
            best_score = "" if best is None else f", {settings.tuning.objective} {100 * best:.1f}"
            bar.update(task, completed=number, description=f"searching{best_score}")

        yield notify_progress


def _as_layer(tuned: Tuned, settings: Config) -> dict[str, Any]:
    """Return the best values as a configuration layer that names the tracker they belong to."""
    from motserve.lab.tuning.search import nested

    layer = nested(tuned.best)
    if "tracker" in layer:
        layer["tracker"] = {"name": settings.tracker.name, **layer["tracker"]}
    return layer


def _document(tuned: Tuned) -> dict[str, Any]:
    return {
        "best": dict(tuned.best),
        "scores": {
            name: {part: scored.scores.as_dict() for part, scored in parts.items()}
            for name, parts in tuned.scores.items()
        },
        "trials": [{"values": dict(trial.values), "score": trial.score} for trial in tuned.trials],
    }


def _table(tuned: Tuned) -> NumberTable:
    from motserve.lab.evaluation import RATIO_NAMES
    from motserve.lab.experiments.record import percent

    rows = []
    for name, parts in tuned.scores.items():
        for part, scored in parts.items():
            scores = percent(scored.scores.as_dict(), RATIO_NAMES)
            cells = (f"{scores[score]:.{1 if score in RATIO_NAMES else 0}f}" for score in _SHOWN)
            rows.append([name, part.replace("_", " "), *cells])
    return NumberTable(["parameters", "split", *_SHOWN], rows, f"best of {len(tuned.trials)} trials", names=2)


def _parameters(tuned: Tuned, settings: Config) -> NumberTable:
    rows = []
    for key, value in tuned.best.items():
        start: Any = settings
        for name in key.split("."):
            start = getattr(start, name)
        rows.append([key, f"{start:g}", f"{value:.4g}"])
    return number_table(["parameter", "start", "best"], rows)
