"""`motserve serve`: the whole service in one command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from motserve.cli.options import ConfigFiles, Overrides, read_config, writable_folder
from motserve.cli.output.terminal import WholeConsole
from motserve.cli.running.ray_session import LOCAL
from motserve.cli.running.service import read_serve_file, running_service, wait_until_ended
from motserve.errors import InvalidConfig
from motserve.serving.addresses import LARGEST_PORT, is_loopback, url_of

_status = WholeConsole(stderr=True, soft_wrap=True)


def _writable(path: Path | None) -> Path | None:
    return writable_folder(path) if path is not None else None


def _require_storage(path: Path) -> None:
    """Refuse a storage that cannot be written to, before Ray is started.

    Raises:
        InvalidConfig: The folder cannot be made or written to.
    """
    try:
        writable_folder(path)
    except typer.BadParameter as error:
        raise InvalidConfig(
            f"serving.storage_dir is {path}: {error.message}; give another one with --storage"
        ) from error


def serve(
    host: Annotated[str | None, typer.Option(help="Host to listen on; by default that of --serve-config.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=LARGEST_PORT, help="Port to listen on; by default that of --serve-config.")
    ] = None,
    storage: Annotated[
        Path | None,
        typer.Option(help="Folder of videos, results and people, short for serving.storage_dir.", callback=_writable),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="A running Ray cluster, such as auto or 10.0.0.5:6379; without it the service starts its own Ray.",
        ),
    ] = None,
    serve_config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration of Ray Serve with the replicas; default: serve_config.yaml, else the shipped one."
        ),
    ] = None,
    logs: Annotated[bool, typer.Option("--logs", help="Print the logs of all processes of the service.")] = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Run the service until Ctrl-C.

    It starts Ray of its own, or deploys to the cluster of --address and removes only its own application at the end.
    """
    from motserve.config.loading.shipped import serve_config_file

    file = read_serve_file(serve_config_file(serve_config))
    layers: list[Path | Mapping[str, Any]] = [*file.args.config, file.args.settings, *(config or [])]
    settings = read_config(layers, overrides)
    if storage is not None:
        serving = settings.serving.model_copy(update={"storage_dir": storage})
        settings = settings.model_copy(update={"serving": serving})
    if address is None:  # the nodes of a cluster have disks of their own
        _require_storage(settings.serving.storage_dir)
    place, number = host or file.host, port or file.port
    _status.print(f"starting the service at {url_of(place, number)} …", highlight=False)
    with running_service(settings, place, number, address or LOCAL, file.options, logs) as url:
        print(f"motserve is ready at {url}, its documentation at {url}/docs. Ctrl-C stops it.", flush=True)
        if not is_loopback(place):
            _status.print(
                f"[yellow]anyone who reaches port {number} can use the service[/]: it has no login; docs/deploy.md "
                "says how to put a proxy in front",
                highlight=False,
            )
        wait_until_ended()
        _status.print("stopping …")
