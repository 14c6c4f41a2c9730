"""`motserve evaluate reid`: retrieval accuracy of an embedder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from motserve.cli.labelled import CropDataset, CropProtocol
from motserve.cli.options import ConfigFiles, JsonFile, Overrides, Rerank, UseMlflow, read_config
from motserve.cli.output.progress import sequence_progress
from motserve.cli.output.tables import number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import write_json

if TYPE_CHECKING:
    from motserve.lab.evaluation.retrieval import RetrievalScores

console = WholeConsole()


def reid(
    root: CropDataset,
    protocol: CropProtocol,
    rerank: Rerank = False,
    json: JsonFile = None,
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Score the configured embedder on a data set of crops: CMC, mAP and mINP."""
    from motserve.lab.evaluation.retrieval import RETRIEVAL_RATIOS
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.crops import load_crops, score_embedder
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.record import log_run, percent
    from motserve.models.provenance import stamp

    settings = read_config(config, overrides, writes=[json])
    models = Models(settings)
    weights = models.reid_weights.describe()
    crops = load_crops(root, protocol)
    with sequence_progress("embedding") as notify_progress:
        plain, reranked = score_embedder(crops, models, open_cache(settings), rerank, notify_progress)
    provenance = stamp(
        settings,
        weights={"reid": weights},
        data=crops.data,
        notes={"protocol": protocol},
        sections=["reid", "evaluation"],
    )
    document = {
        "scores": plain.as_dict(),
        **({"reranked": reranked.as_dict()} if reranked else {}),
        "provenance": provenance,
    }
    rows = [[weights["name"], *_cells(plain)], *([["  re-ranked", *_cells(reranked)]] if reranked else [])]
    console.print(number_table(["weights", *plain.as_dict()], rows, f"{root.resolve().name}, {protocol}"))
    if weights["fallback"]:
        console.print(f"[yellow]{escape(weights['fallback'])}[/]", highlight=False)
    if json is not None:
        write_json(json, document)
    if mlflow:
        metrics = percent(plain.as_dict(), RETRIEVAL_RATIOS)
        if reranked:
            scores = percent(reranked.as_dict(), RETRIEVAL_RATIOS)
            metrics |= {f"reranked/{name}": value for name, value in scores.items()}
        run = log_run(settings.mlflow, "reid", metrics, provenance, [json] if json else [], weights["name"])
        console.print(f"MLflow run {run}", style="dim", highlight=False)


def _cells(scores: RetrievalScores) -> list[str]:
    from motserve.lab.evaluation.retrieval import RETRIEVAL_RATIOS
    from motserve.lab.experiments.record import percent

    numbers = percent(scores.as_dict(), RETRIEVAL_RATIOS)
    return [f"{value:.1f}" if name in RETRIEVAL_RATIOS else f"{value:.0f}" for name, value in numbers.items()]
