"""`motserve models show|measure|promote|rollback|archive`: the life cycle of a model from training to production."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from motserve.choices import Alias, Benchmark, Protocol
from motserve.cli.labelled import (
    CropProtocol,
    MaybeCropDataset,
    MaybeGroundTruth,
    Rules,
    Split,
    Videos,
    YoloFile,
)
from motserve.cli.options import ConfigFiles, JsonFile, Overrides, SequenceNames, names_of, read_config
from motserve.cli.output.progress import sequence_progress
from motserve.cli.output.terminal import WholeConsole
from motserve.errors import InvalidConfig
from motserve.files.atomic import write_json

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.models.registry import Registry, Scores, Version

console = WholeConsole()

REFUSED = 5
"""Exit code of a promotion that the gate refuses."""

_PREFERRED = ("mAP50", "mAP50-95", "MOTA", "IDF1", "HOTA", "Rank-1", "mAP")

ModelName = Annotated[str, typer.Argument(help="Name of the model in the registry.", metavar="NAME")]
VersionNumber = Annotated[int, typer.Argument(help="Number of the version.", metavar="VERSION", min=1)]
Reason = Annotated[str, typer.Option("--reason", help="Reason to record in the history.")]


@dataclass(frozen=True, slots=True)
class ScoringData:
    """The data that a version is scored on, as given by the options of a command; see `motserve.cli.labelled`."""

    data: Path | None
    split: str
    gt: Path | None
    videos: Path | None
    sequences: str | None
    benchmark: Benchmark | None
    root: Path | None
    protocol: Protocol

    @property
    def given(self) -> list[str]:
        """The options that are given, of which only one may be."""
        options = (("--data", self.data), ("--gt", self.gt), ("--root", self.root))
        return [option for option, value in options if value is not None]

    def score(self, settings: Config, version: Version) -> Scores:
        """Score a version on the data.

        Raises:
            InvalidConfig: No data are given, more than one, or data for the other role.
        """
        from motserve.config import change_config
        from motserve.lab.evaluation.sequences import find_truth
        from motserve.lab.experiments.measure import measure_detector, measure_embedder, measure_tracking

        fitting = ("--root",) if version.role == "reid" else ("--data", "--gt")
        if len(self.given) != 1 or self.given[0] not in fitting:
            raise InvalidConfig(
                f"{version.uri} is a {version.role}: it is measured with one of {' and '.join(fitting)}"
            )
        chosen = change_config(settings, {version.role: {"weights": [version.uri]}})
        with sequence_progress(f"measuring {version.model}/{version.number} on") as notify_progress:
            if self.root is not None:
                return measure_embedder(chosen, self.root, self.protocol, notify_progress)
            if self.data is not None:
                return measure_detector(chosen, self.data, self.split, notify_progress)
            assert self.gt is not None
            truths = find_truth(self.gt, names_of(self.sequences))
            return measure_tracking(chosen, truths, self.videos, self.benchmark, notify_progress)


def show(
    name: ModelName,
    version: Annotated[str | None, typer.Argument(help="A version or an alias; by default all versions.")] = None,
    json: JsonFile = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Show the versions of a model, or one of them with all its scores."""
    from motserve.models.registry import Registry

    settings = read_config(config, overrides)
    registry = Registry(settings.mlflow, settings.registry)
    if version is not None:
        versions = [registry.version(name, version)]
        _show_version(versions[0])
    else:
        versions = registry.versions(name)
        console.print(versions_table(versions))
        _show_history(registry, name)
    if json is not None:
        moves = [asdict(move) for move in registry.history(name)]
        write_json(json, {"versions": [asdict(one) for one in versions], "history": moves})


def measure(
    name: ModelName,
    version: VersionNumber,
    data: YoloFile = None,
    split: Split = "val",
    gt: MaybeGroundTruth = None,
    videos: Videos = None,
    sequences: SequenceNames = None,
    benchmark: Rules = None,
    root: MaybeCropDataset = None,
    protocol: CropProtocol = "market1501",
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Score a version on data and store the scores with it; the gate compares scores on the same data."""
    from motserve.models.registry import Registry

    settings = read_config(config, overrides)
    registry = Registry(settings.mlflow, settings.registry)
    candidate = registry.version(name, version)
    scoring = ScoringData(data, split, gt, videos, sequences, benchmark, root, protocol)
    scores = scoring.score(settings, candidate)
    registry.add_scores(candidate, [scores])
    console.print(f"{candidate.uri} on {escape(scores.data)}: {_metrics(scores)}", highlight=False)


def promote(
    name: ModelName,
    version: VersionNumber,
    to: Annotated[Alias, typer.Option("--to", help="Alias to give the version.")],
    force: Annotated[
        bool, typer.Option("--force", help="Promote even if the gate refuses; the history and the log record it.")
    ] = False,
    reason: Reason = "",
    data: YoloFile = None,
    split: Split = "val",
    gt: MaybeGroundTruth = None,
    videos: Videos = None,
    sequences: SequenceNames = None,
    benchmark: Rules = None,
    root: MaybeCropDataset = None,
    protocol: CropProtocol = "market1501",
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Promote a version to production or staging, if it is no worse than the version in production.

    With data (--data, --gt or --root) both versions are scored on it first; otherwise stored scores are compared.
    """
    from motserve.models.registry import Registry

    settings = read_config(config, overrides)
    registry = Registry(settings.mlflow, settings.registry)
    candidate = registry.version(name, version)
    scoring = ScoringData(data, split, gt, videos, sequences, benchmark, root, protocol)
    if scoring.given:
        present = [one for one in registry.versions(name) if "production" in one.aliases]
        for one in {one.number: one for one in (candidate, *present)}.values():
            registry.add_scores(one, [scoring.score(settings, one)])
    verdict = registry.promote(name, version, to, force=force, reason=reason)
    for line in verdict.reasons:
        console.print(f"  {escape(line)}", highlight=False)
    if verdict.passed or force:
        past = "" if verdict.passed else ", although the gate refused it"
        console.print(f"{candidate.uri} is in {to} now{past}", highlight=False)
        return
    WholeConsole(stderr=True, soft_wrap=True).print(
        f"[bold red]refused:[/] {candidate.uri} is not promoted to {to}; --force promotes it anyway", highlight=False
    )
    raise typer.Exit(REFUSED)


def rollback(
    name: ModelName,
    to: Annotated[Alias, typer.Option("--of", help="Alias to roll back.")] = "production",
    reason: Reason = "",
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Return an alias to the version that it had before."""
    from motserve.models.registry import Registry

    settings = read_config(config, overrides)
    restored = Registry(settings.mlflow, settings.registry).rollback(name, to, reason)
    console.print(f"{restored.uri} is in {to} again", highlight=False)


def archive(
    name: ModelName,
    version: VersionNumber,
    undo: Annotated[bool, typer.Option("--undo", help="Restore an archived version.")] = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Archive a version, so that it cannot be used; its files stay."""
    from motserve.models.registry import Registry

    settings = read_config(config, overrides)
    Registry(settings.mlflow, settings.registry).archive(name, version, undo)
    console.print(f"models:/{name}/{version} is {'no longer ' if undo else ''}archived", highlight=False)


def versions_table(versions: list[Version]) -> Table:
    """Return versions as a table, one per row."""
    table = Table()
    for heading in ("version", "is", "registered"):
        table.add_column(heading, no_wrap=True)
    table.add_column("scores")
    for one in versions:
        state = ", ".join(one.aliases) or ("archived" if one.archived else "")
        scores = "\n".join(f"{_metrics(each)} ({escape(each.data)})" for each in one.scores.values())
        table.add_row(f"{one.model}/{one.number}", state, one.created.astimezone().strftime("%Y-%m-%d"), scores)
    return table


def _show_version(version: Version) -> None:
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "version": version.uri,
        "is": ", ".join(version.aliases) or ("archived" if version.archived else "-"),
        "role": version.role,
        "architecture": version.architecture,
        "registered": version.created.astimezone().isoformat(timespec="seconds"),
        "run": version.run_id,
        "sha256": version.sha256,
    }
    for key, value in rows.items():
        table.add_row(key, escape(value))
    for one in version.scores.values():
        table.add_row(escape(one.data), "\n".join(f"{name} {value:.2f}" for name, value in one.metrics.items()))
    console.print(table)


def _show_history(registry: Registry, name: str) -> None:
    moves = registry.history(name)
    if not moves:
        return
    table = Table("when", "alias", "from", "to", "how", "by", "reason", title="moves")
    for move in moves:
        before = "" if move.before is None else str(move.before)
        at = datetime.fromisoformat(move.at).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(at, move.alias, before, str(move.after), move.way, escape(move.by), escape(move.reason))
    console.print(table)


def _metrics(scores: Scores) -> str:
    shown = [name for name in _PREFERRED if name in scores.metrics]
    return ", ".join(f"{name} {scores.metrics[name]:.2f}" for name in shown)
