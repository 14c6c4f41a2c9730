"""`motserve store`: backs up the service's storage while it runs, and restores it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from motserve import __version__
from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.cli.output.terminal import WholeConsole

if TYPE_CHECKING:
    from motserve.serving.stores.backup import Backup

app = typer.Typer(no_args_is_help=True, help="Back up and restore the service's storage: jobs, videos, people.")
console = WholeConsole()


@app.command("backup")
def backup(
    folder: Annotated[Path, typer.Argument(help="Folder for the backup; new or empty.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Copy serving.storage_dir into FOLDER; the service may be running."""
    from motserve.serving.stores.backup import back_up

    storage = read_config(config, overrides).serving.storage_dir
    _print_summary(back_up(storage, folder, __version__), f"copied to {folder}")


@app.command("restore")
def restore_backup(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Restore the backup in FOLDER to serving.storage_dir, which must be empty; start the service afterwards."""
    from motserve.serving.stores.backup import restore

    storage = read_config(config, overrides).serving.storage_dir
    _print_summary(restore(folder, storage), f"restored to {storage}")


def _print_summary(done: Backup, what: str) -> None:
    console.print(f"{done.videos} videos, {done.bytes / 1e6:.1f} MB, {escape(what)}", highlight=False)
