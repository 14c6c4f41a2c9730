"""`motserve config`: what is configured, and what can be."""

from __future__ import annotations

import sys

import orjson
import typer
import yaml

from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.config import Config

app = typer.Typer(no_args_is_help=True, help="The configuration.")


@app.command("show")
def show(config: ConfigFiles = None, overrides: Overrides = None) -> None:
    """Print the whole configuration as it results from defaults, files, environment and --set, as YAML."""
    settings = read_config(config, overrides)
    yaml.safe_dump(settings.model_dump(mode="json"), sys.stdout, sort_keys=False)


@app.command("schema")
def schema() -> None:
    """Print the JSON schema: every key with its description, unit and bounds."""
    typer.echo(orjson.dumps(Config.model_json_schema(), option=orjson.OPT_INDENT_2))
