"""`motserve benchmark serve`: speed of the service beside the same networks without it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from motserve.cli.benchmark.serve_setup import (
    Simulation,
    benchmark_settings,
    own_service,
    peer_names,
    running_at,
    session_counts,
    simulate,
    start_contenders,
)
from motserve.cli.benchmark.serve_tables import tables
from motserve.cli.compare.trackers import NO_PEERS
from motserve.cli.options import ConfigFiles, JsonFile, Overrides, writable_file
from motserve.cli.output.progress import sequence_progress
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import write_json

if TYPE_CHECKING:
    from motserve.config import Config

_WARM_UP_FRAMES: Final = 32
_DEFAULT_PEER: Final = "ultralytics"


def serve(
    clip: Annotated[Path, typer.Argument(help="Video file, or folder of pictures, that is tracked.")],
    frames: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Frames of the clip; a shorter one begins again.")
    ] = 300,
    sessions: Annotated[
        str, typer.Option(help="Numbers of videos that the service tracks at once, separated by commas.")
    ] = "1,2,4,8",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Timed runs of each, in turns.")] = 3,
    peers: Annotated[
        str | None,
        typer.Option(
            help="Other packages: ultralytics, ultralytics-openvino, separated by commas; `all` or `none`. By default "
            "ultralytics, and none with simulated networks."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Address of a running service; by default the benchmark starts one of its own.")
    ] = None,
    metrics_url: Annotated[
        str | None,
        typer.Option(help="With --url: address where it exports its metrics, such as http://127.0.0.1:8080/metrics."),
    ] = None,
    simulate_detector_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=60_000,
            help="Simulate the networks: milliseconds that the detector takes for a batch of any size.",
        ),
    ] = None,
    simulate_embedder_ms: Annotated[
        float | None,
        typer.Option(min=0, max=60_000, help="The same of the embedder; by default as long as the detector."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Largest batch, short for serving.detector.max_batch.")
    ] = None,
    json: JsonFile = None,
    plot: Annotated[
        Path | None, typer.Option(help="PNG file for a plot of the speeds.", callback=writable_file)
    ] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Track the first frames of CLIP with and without the service, in turns, and compare speed, CPU time and memory.

    Beside the service run a bare loop of detector and tracker, `model.track` of Ultralytics, and the pipeline of
    `motserve track`, each in a process of its own. With --simulate-detector-ms the service alone is measured, as if it
    had an accelerator.
    """
    from motserve.lab.benchmark.serving.clip import write_clip
    from motserve.lab.benchmark.serving.entrants import Clip, Served, take_turns
    from motserve.lab.benchmark.serving.plot import draw
    from motserve.lab.benchmark.serving.rows import sum_up
    from motserve.models.provenance import write_stamp

    counts = session_counts(sessions)
    simulation = _simulation(simulate_detector_ms, simulate_embedder_ms)
    _refuse_without_effect(simulation, url, metrics_url, peers, batch)
    simulated = simulation is not None
    settings, options = benchmark_settings(config, overrides, [json, plot], max(counts), batch, simulated)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="motserve-benchmark-")))
        whole, short = Clip(folder / "clip.mp4", frames), Clip(folder / "warm-up.mp4", min(frames, _WARM_UP_FRAMES))
        for part in (whole, short):
            write_clip(clip, part.frames, settings, part.path)
        if url is not None:  # before anything is loaded
            meter = stack.enter_context(running_at(url, metrics_url))
        if simulation is None:
            chosen = peer_names(_DEFAULT_PEER if peers is None else peers)
            entrants = start_contenders(stack, settings, chosen, folder)
            networks, limit_per_s = None, None
        else:
            entrants = []
            networks, limit_per_s = simulate([whole, short], settings, simulation), simulation.limit_per_s(settings)
        if url is None:
            meter = stack.enter_context(own_service(settings, options, folder / "store", networks))
        entrants += [Served(meter, count) for count in counts]
        with sequence_progress("measuring") as notify_progress:
            turns = take_turns(entrants, whole, short, rounds, notify_progress)
    rows = [
        sum_up(entrant.name, entrant.sessions, own, limit_per_s) for entrant, own in zip(entrants, turns, strict=True)
    ]
    console = WholeConsole()
    for table in tables(rows):
        console.print(table)
    if plot is not None:
        draw(rows, plot, limit_per_s)
    if json is not None:
        write_json(json, [asdict(row) for row in rows])
        notes = {"frames": frames, "rounds": rounds, "url": url, "simulation": simulation and asdict(simulation)}
        write_stamp(json, _provenance(settings, clip, notes))


def _simulation(detector_ms: float | None, embedder_ms: float | None) -> Simulation | None:
    if detector_ms is None:
        if embedder_ms is not None:
            raise typer.BadParameter("give --simulate-detector-ms too", param_hint="--simulate-embedder-ms")
        return None
    return Simulation(detector_ms * 1e-3, (detector_ms if embedder_ms is None else embedder_ms) * 1e-3)


def _refuse_without_effect(
    simulation: Simulation | None, url: str | None, metrics_url: str | None, peers: str | None, batch: int | None
) -> None:
    """Refuse options that would change nothing.

    Raises:
        typer.BadParameter: There is one.
    """
    if url is None and metrics_url is not None:
        raise typer.BadParameter(
            "a service of the benchmark's own needs no address of metrics", param_hint="--metrics-url"
        )
    if url is not None and simulation is not None:
        raise typer.BadParameter("a running service has its own networks; leave out --url", param_hint="--url")
    if url is not None and batch is not None:
        raise typer.BadParameter("a running service has its own settings; leave out --batch", param_hint="--batch")
    if simulation is not None and peers not in (None, NO_PEERS):
        raise typer.BadParameter("other packages are not measured with simulated networks", param_hint="--peers")


def _provenance(settings: Config, clip: Path, notes: dict[str, Any]) -> dict[str, Any]:
    from motserve.models.provenance import describe_files, stamp
    from motserve.models.weights import resolve_weights

    return stamp(
        settings,
        weights={
            "detector": resolve_weights("detector", settings).describe(),
            "reid": resolve_weights("reid", settings).describe() if settings.needs_embeddings else None,
        },
        data={"clip": describe_files([clip])},
        libraries=["ray", "openvino"],
        notes=notes,
    )
