"""`motserve demo`: renders a clip, starts the whole service, posts the clip, and scores the returned tracks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.cli.output.terminal import WholeConsole
from motserve.cli.running.service import read_serve_file, running_service, wait_until_ended
from motserve.errors import MotserveError
from motserve.files.atomic import replacing
from motserve.serving.addresses import free_port

if TYPE_CHECKING:
    import httpx

    from motserve.config import Config
    from motserve.lab.evaluation import MotScores
    from motserve.lab.scenes import SceneConfig

console = WholeConsole()

_POLL_S = 0.25
_HOST = "127.0.0.1"
_SEED = 6  # people pass each other, are occluded, and return
_DRAWN_REFERENCE = 0.95


def demo(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(help="Folder for the clip, ground truth, tracks and annotated video.")] = Path(
        "demo"
    ),
    serve_config: Annotated[
        Path | None,
        typer.Option(
            help="Serve configuration of the service to start; default: serve_config.yaml, else the shipped one."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Length of the clip.")] = 12.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the clip.")] = _SEED,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the service running until Ctrl-C.")] = False,
) -> None:
    """Render a clip, post it to the real service, score the tracks, write the annotated video."""
    import httpx

    from motserve.config.loading.shipped import serve_config_file
    from motserve.lab.scenes import SceneConfig

    arguments = read_serve_file(serve_config_file(serve_config)).args
    layers: list[Path | Mapping[str, Any]] = [*arguments.config, arguments.settings, *(config or [])]
    settings = read_config(layers, overrides, writes=[output])
    serving = settings.serving.model_copy(update={"storage_dir": output.absolute() / "service"})
    settings = _for_drawn_people(settings.model_copy(update={"serving": serving}))
    output.mkdir(parents=True, exist_ok=True)
    clip, truth = output / "clip.mp4", output / "ground_truth.txt"
    with Progress(console=console, transient=True) as progress:
        _render(SceneConfig(duration_s=seconds, seed=seed), clip, truth, settings, progress)
        starting = progress.add_task("starting the service", total=None)
        with _service(settings) as url, httpx.Client(base_url=url, timeout=None) as client:
            progress.remove_task(starting)
            state = _track(client, clip, progress)
            _fetch(client, f"{state['links']['tracks']}?format=mot", output / "tracks.txt")
            drawing = progress.add_task("drawing", total=None)
            _fetch(client, state["links"]["annotated"], output / "annotated.mp4")
            progress.remove_task(drawing)
            progress.stop()
            console.print(_table(state, _score(truth, output / "tracks.txt"), output))
            if keep:
                console.print(f"The service is at {url}, its documentation at {url}/docs. Ctrl-C stops it.")
                wait_until_ended()
            client.delete(state["links"]["self"])


def _for_drawn_people(settings: Config) -> Config:
    """Lower the thresholds of the default tracker: the bundled detector learned from photographs."""
    from motserve.config import Config, change_config

    if settings.tracker != Config().tracker:  # the user's choice
        return settings
    return change_config(settings, {"tracker": {"confidence_scaling": {"reference": _DRAWN_REFERENCE}}})


def _render(scene: SceneConfig, clip: Path, truth: Path, settings: Config, progress: Progress) -> None:
    from motserve.lab.scenes import ground_truth_rows, render
    from motserve.video import VideoWriter

    task = progress.add_task("rendering", total=scene.frames)
    rows: list[str] = []
    with VideoWriter(clip, scene.width, scene.height, settings.video, scene.rate_hz) as writer:
        for rendered in render(scene):
            writer.write(rendered.frame.image, rendered.frame.timestamp)
            rows += ground_truth_rows([rendered])
            progress.advance(task)
    with replacing(truth) as partial:
        partial.write_text("\n".join(rows) + "\n")
    progress.remove_task(task)


@contextmanager
def _service(settings: Config) -> Iterator[str]:
    """Run the service on a free port; its uploads and results are deleted at the end."""
    try:
        with running_service(
            settings, _HOST, free_port(_HOST), options={"logging_config": {"log_level": "WARNING"}}
        ) as url:
            yield url
    finally:
        shutil.rmtree(settings.serving.storage_dir, ignore_errors=True)


def _track(client: httpx.Client, clip: Path, progress: Progress) -> dict[str, Any]:
    with clip.open("rb") as file:
        posted = client.post("/v1/videos", files={"file": (clip.name, file, "video/mp4")})
    posted.raise_for_status()
    task = progress.add_task("tracking", total=None)
    while True:
        state: dict[str, Any] = client.get(posted.json()["links"]["self"]).raise_for_status().json()
        progress.update(task, completed=state["frames_done"], total=state["frames_total"])
        if state["status"] == "failed":
            raise MotserveError(f"the service failed to track {clip}: {state['error']['message']}")
        if state["status"] == "done":
            progress.remove_task(task)
            return state
        time.sleep(_POLL_S)


def _fetch(client: httpx.Client, url: str, target: Path) -> None:
    with replacing(target) as partial, client.stream("GET", url) as answer, partial.open("wb") as file:
        answer.raise_for_status()
        for block in answer.iter_bytes():
            file.write(block)


def _score(truth: Path, tracks: Path) -> MotScores:
    from motserve.lab.evaluation import rules_for, score_sequence
    from motserve.results import read_mot

    people = read_mot(truth)
    return score_sequence(people, read_mot(tracks), rules_for(truth.stem, people)).scores


def _table(state: dict[str, Any], scores: MotScores, output: Path) -> Table:
    table = Table(title="motserve demo", show_header=False)
    table.add_row("frames", str(state["frames_done"]))
    table.add_row("frames/s", f"{state['fps']:.1f}")
    table.add_row("identities", str(state["identities"]))
    table.add_row("returns recognised", str(state["links_made"]))
    table.add_row("HOTA", f"{100 * scores.hota:.1f} %")
    table.add_row("MOTA", f"{100 * scores.mota:.1f} %")
    table.add_row("IDF1", f"{100 * scores.idf1:.1f} %")
    table.add_row("ID switches", str(scores.id_switches))
    for role, weights in state["models"].items():
        if weights:
            table.add_row(f"{role} weights", f"{weights['name']} {weights['sha256'][:12]}")
            if weights["fallback"]:
                table.add_row("", f"[yellow]{weights['fallback']}[/]")
    table.add_row("annotated video", str(output / "annotated.mp4"))
    return table
