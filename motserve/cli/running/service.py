"""Runs the service from this process, on Ray of its own or on a running cluster, for as long as a command needs it."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from motserve.cli.running.ray_session import LOCAL, running_ray, undisturbed
from motserve.errors import Conflict, InvalidConfig, MotserveError
from motserve.files.yaml_reader import read_yaml
from motserve.models.extras import required_extra
from motserve.serving.addresses import LARGEST_PORT, require_free_port, url_of

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.serving.arguments import ServeArgs
    from motserve.serving.inference.loading import Networks

APPLICATION: Final = "motserve"
"""Name of the application in Ray Serve."""

_HOST: Final = "127.0.0.1"
_PORT: Final = 8000  # as Ray Serve
_ANSWER_S: Final = 30.0  # from the readiness of all deployments to the first answer; usually well below a second
_POLL_S: Final = 0.1
_REQUEST_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ServeFile:
    """What a Serve configuration such as `serve_config.yaml` says about the service.

    Attributes:
        args: Arguments of the application.
        host: Host that the service listens on.
        port: TCP port that the service listens on.
        options: The other options of Ray Serve: `proxy_location`, `http_options` and `logging_config`.
    """

    args: ServeArgs
    host: str = _HOST
    port: int = _PORT
    options: Mapping[str, Any] = field(default_factory=dict)


def read_serve_file(path: Path) -> ServeFile:
    """Read a Serve configuration.

    Raises:
        InvalidConfig: The file cannot be read, or is not a Serve configuration.
    """
    import yaml
    from pydantic import ValidationError

    from motserve.serving.arguments import ServeArgs

    try:
        tree = read_yaml(path)
    except OSError as error:
        raise InvalidConfig(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidConfig(f"{path} is not valid: {error}") from error
    try:
        args = ServeArgs(**(tree["applications"][0].get("args") or {}))
        http = dict(tree.get("http_options") or {})
        host, port = http.pop("host", _HOST), http.pop("port", _PORT)
        options = {key: tree[key] for key in ("proxy_location", "logging_config") if key in tree}
    except (ValidationError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InvalidConfig(f"{path} is not a Serve configuration with an application: {error!r}") from error
    if (
        not isinstance(host, str)
        or isinstance(port, bool)
        or not isinstance(port, int)
        or not 1 <= port <= LARGEST_PORT
    ):
        raise InvalidConfig(f"{path}: http_options has the host {host!r} and the port {port!r}; a port is 1 to 65535")
    return ServeFile(args, host, port, {**options, "http_options": http})


@contextmanager
def running_service(
    settings: Config,
    host: str,
    port: int,
    address: str = LOCAL,
    options: Mapping[str, Any] | None = None,
    show_logs: bool = False,
    networks: Networks | None = None,
) -> Iterator[str]:
    """Run the service until the end of the `with` block.

    On Ray of its own, all processes end with it. On a running cluster only the application is removed, and Ray Serve
    only if it was started here and runs nothing else.

    Args:
        settings: The configuration.
        host: Host to listen on.
        port: Port to listen on.
        address: Address of a running Ray cluster, `auto`, or `local`.
        options: Other arguments of `serve.start`.
        show_logs: Print the logs of all processes of the service.
        networks: Builds the networks of the replicas; None for those that the configuration names.

    Yields:
        URL of the service, which answers.

    Raises:
        Conflict: The port is taken, or the cluster has an application of this name.
        InvalidConfig: There is no cluster at the address, or the service cannot listen there.
        MotserveError: The service does not start.
    """
    if address == LOCAL:
        require_free_port(host, port)
    with required_extra("serve", "the service"):
        from ray import serve

        from motserve.serving.app import compose
    with contextlib.ExitStack() as after_ray, running_ray(address, "serve", show_logs):
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        before = serve.status()
        if APPLICATION in before.applications:
            raise Conflict(
                f"the cluster at {address} already runs the application {APPLICATION}; stop the command that started "
                "it, or remove it with `serve shutdown`, which removes all applications"
            )
        if not before.proxies and address != LOCAL:
            require_free_port(host, port)
        options = dict(options or {})
        http = {**options.pop("http_options", {}), "host": host, "port": port}
        try:
            try:
                serve.start(http_options=http, **options)
                serve.run(compose(settings, networks), name=APPLICATION, route_prefix="/")
            except (RuntimeError, ValueError) as error:  # a `ValueError` for options that Ray Serve does not know
                raise MotserveError(f"the service does not start: {' '.join(str(error).split())}") from error
            wait_for_answer(url_of(host, port))
            yield url_of(host, port)
        finally:
            # Ray prints an error on standard output because its own shutdown of Ray Serve ends the controller
            after_ray.enter_context(contextlib.redirect_stdout(io.StringIO()))
            with undisturbed(), contextlib.suppress(Exception):  # of a cluster that is gone
                serve.delete(APPLICATION)
                if address != LOCAL and not before.proxies and not serve.status().applications:
                    serve.shutdown()


def wait_for_answer(url: str, limit_s: float = _ANSWER_S, wait: Callable[[float], None] = time.sleep) -> None:
    """Wait until the service answers `/healthz`.

    Raises:
        MotserveError: It does not answer in time.
    """
    import httpx

    last = "no answer"
    for _ in range(max(1, round(limit_s / _POLL_S))):
        try:
            answer = httpx.get(f"{url}/healthz", timeout=_REQUEST_S, trust_env=False)
            if answer.status_code == httpx.codes.OK:
                return
            last = f"status {answer.status_code}"
        except httpx.TransportError as error:
            last = str(error)
        wait(_POLL_S)
    raise MotserveError(
        f"the service runs but does not answer at {url}/healthz ({last}); if Ray Serve of the cluster already listens "
        "elsewhere, give its --host and --port"
    )


def wait_until_ended() -> None:
    """Return at Ctrl-C, `kill`, or the end of the terminal; that is how a service is stopped, so it is no error."""
    ended = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            if before[number] is not signal.SIG_IGN:  # as with `nohup`
                signal.signal(number, lambda *_: ended.set())
        ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
