"""`motserve models`: weights on this machine and model versions in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

import typer
from rich.markup import escape
from rich.table import Table

from motserve.cli.models import registry
from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.cli.output.terminal import WholeConsole, say_error

if TYPE_CHECKING:
    from motserve.models.weights import Weights

app = typer.Typer(
    no_args_is_help=True, help="Manage the weights of detector and embedder, and the registry of trained models."
)
console = WholeConsole()
for command in (registry.show, registry.measure, registry.promote, registry.rollback, registry.archive):
    app.command(command.__name__)(command)


@app.command("list")
def list_models(config: ConfigFiles = None, overrides: Overrides = None) -> None:
    """List the registry and the configured weights in order of preference; the first on this machine are used."""
    from motserve.config.base import Role
    from motserve.models.registry import Registry
    from motserve.models.weights import find_weights

    settings = read_config(config, overrides)
    table = Table("role", "name", "used", "size", "sha256", "path")
    for role in cast("tuple[Role, ...]", get_args(Role)):
        used = True
        for name, weights in find_weights(role, settings):
            if weights is None:
                table.add_row(role, escape(name), "", "", "", "[yellow]not on this machine[/]")
                continue
            table.add_row(role, escape(name), "yes" if used else "", *_describe(weights))
            used = False
    console.print(table)
    registered = Registry(settings.mlflow)
    versions = [version for model in registered.models() for version in registered.versions(model)]
    if versions:
        console.print(registry.versions_table([one for one in versions if not one.archived]))


@app.command("pull")
def pull(config: ConfigFiles = None, overrides: Overrides = None) -> None:
    """Download the preferred weights of detector and embedder, so that the service can start without a network."""
    from motserve.config.base import Role
    from motserve.models.weights import resolve_weights

    settings = read_config(config, overrides)
    table = Table("role", "name", "size", "sha256", "path")
    fallbacks = []
    for role in cast("tuple[Role, ...]", get_args(Role)):
        weights = resolve_weights(role, settings)
        table.add_row(role, escape(weights.name), *_describe(weights))
        if weights.fallback:
            fallbacks.append(f"{role}: {weights.fallback}")
    console.print(table)
    if fallbacks:
        say_error(f"preferred weights are not available; {'; '.join(fallbacks)}")
        raise typer.Exit(4)


def _describe(weights: Weights) -> tuple[str, str, str]:
    files = [p for p in weights.path.rglob("*") if p.is_file()] if weights.path.is_dir() else [weights.path]
    size = sum(file.stat().st_size for file in files)
    return f"{size / 1e6:.1f} MB", weights.sha256[:12], escape(str(weights.path))
