"""`motserve store`: what the service has stored, copied while it runs and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from motserve import __version__
from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.serving.stores.backup import Backup, back_up, restore

app = typer.Typer(no_args_is_help=True, help="What the service has stored: jobs, videos, people.")
console = Console()


@app.command("backup")
def backup(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup; a new or an empty one.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Copy all that is in serving.storage_dir into FOLDER, while the service runs."""
    storage = read_config(config, overrides).serving.storage_dir
    _tell(back_up(storage, folder, __version__), f"copied to {folder}")


@app.command("restore")
def restore_backup(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Put the backup in FOLDER into serving.storage_dir, which must be empty, before the service is started on it."""
    storage = read_config(config, overrides).serving.storage_dir
    _tell(restore(folder, storage), f"restored to {storage}")


def _tell(done: Backup, what: str) -> None:
    console.print(f"{done.videos} videos, {done.bytes / 1e6:.1f} MB, {escape(what)}", highlight=False)
