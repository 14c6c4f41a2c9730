"""`motserve config`: the effective configuration and its schema."""

from __future__ import annotations

import sys

import typer

from motserve.cli.options import ConfigFiles, Overrides, read_config

app = typer.Typer(no_args_is_help=True, help="Show the configuration and its schema.")


@app.command("show")
def show(config: ConfigFiles = None, overrides: Overrides = None) -> None:
    """Print the effective configuration (defaults, files, environment and --set combined) as YAML."""
    import yaml

    settings = read_config(config, overrides)
    yaml.safe_dump(settings.model_dump(mode="json"), sys.stdout, sort_keys=False)


@app.command("schema")
def schema() -> None:
    """Print the JSON schema: every key with its description, unit and bounds."""
    import orjson

    from motserve.config import Config

    typer.echo(orjson.dumps(Config.model_json_schema(), option=orjson.OPT_INDENT_2))
