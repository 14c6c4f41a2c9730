"""`motserve benchmark reentry`: gain of re-identification where people leave the scene and return."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motserve.cli.compare.output import OutputFolder, conclude
from motserve.cli.labelled import PeopleFile
from motserve.cli.options import ConfigFiles, Overrides, Policies, read_config
from motserve.cli.output.progress import sequence_progress
from motserve.files.names import to_json

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.benchmark.reentry import Reentry, ReentryConfig


def reentry(
    crops: Annotated[
        Path | None,
        typer.Option(
            help="Crops named as in Market-1501, at least eight per person and camera; by default people are drawn."
        ),
    ] = None,
    people: PeopleFile = None,
    scenes: Annotated[Path | None, typer.Option(help="YAML file with the settings of the scenes.")] = None,
    policies: Policies = "off,on_demand",
    detector: Annotated[
        bool, typer.Option("--detector", help="Run the configured detector instead of a simulated one.")
    ] = False,
    output: OutputFolder = Path("runs/benchmark/reentry"),
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Render scenes in which people leave for seconds and return, and track them with and without re-identification."""
    from motserve.config.loading.yaml_files import read_settings
    from motserve.lab.benchmark.reentry import ReentryConfig
    from motserve.lab.compare.identities import compare_identities, policies_of
    from motserve.lab.evaluation.sequences import find_truth
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.scoring import MOT_LIBRARIES
    from motserve.lab.experiments.sequences import load_sequences
    from motserve.models.provenance import stamp

    settings = read_config(config, overrides, writes=[output])
    if people is not None and crops is None:
        raise typer.BadParameter("--people selects people of --crops; give --crops", param_hint="--people")
    scene_settings = read_settings(scenes, ReentryConfig) if scenes else ReentryConfig()
    candidates = policies_of([name.strip() for name in policies.split(",") if name.strip()], settings)
    if not candidates:
        raise typer.BadParameter("name at least one policy", param_hint="--policies")
    rendered = _rendered(scene_settings, settings, output / "scenes", crops, people)
    models, cache = Models(settings), open_cache(settings)
    truths = find_truth(rendered.truth, rendered.names)
    with sequence_progress("detecting") as notify_progress:
        loaded = load_sequences(
            truths, models, cache, detections=None if detector else rendered.detections,
            videos=rendered.truth, progress=notify_progress,
        )  # fmt: skip
    with sequence_progress("tracking with") as notify_progress:
        comparison = compare_identities(loaded, candidates, cache, notify_progress)
    uses_embeddings = any(candidate.needs_embeddings for candidate in candidates.values())
    provenance = stamp(
        settings,
        weights={
            "detector": models.detector_weights.describe() if detector else None,
            "reid": models.reid_weights.describe() if uses_embeddings else None,
        },
        data={sequence.name: sequence.describe() for sequence in loaded},
        libraries=MOT_LIBRARIES,
        notes={"scenes": scene_settings.model_dump(mode="json"), "policies": list(candidates)},
        sections=["tracker", "reid", "video", *(["detector"] if detector else [])],
    )
    conclude(comparison, "reentry", settings, provenance, output, mlflow=False)


def _rendered(
    scenes: ReentryConfig, settings: Config, folder: Path, crops: Path | None, people: Path | None
) -> Reentry:
    """Render the scenes, or reuse the folder if it already holds the same scenes."""
    from motserve.lab.benchmark.reentry import find_reentry, write_reentry
    from motserve.lab.evaluation.reid_data import read_ids
    from motserve.models.provenance import describe_files

    people_ids = read_ids(people) if people else None
    content = {
        "scenes": scenes.model_dump(mode="json"),
        "video": settings.video.model_dump(mode="json"),
        "crops": describe_files([crops])["sha256"] if crops else None,
        "people": sorted(people_ids) if people_ids is not None else None,
    }
    key = to_json(content)
    existing = find_reentry(folder, key)
    if existing is not None:
        return existing
    with sequence_progress("rendering") as notify_progress:
        return write_reentry(scenes, settings.video, folder, crops, people_ids, key, notify_progress)
