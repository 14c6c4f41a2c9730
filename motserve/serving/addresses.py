"""Addresses of the service and of Ray clusters: checked in advance, because Ray tries a wrong one for minutes."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

from motserve.errors import Conflict, InvalidConfig

LARGEST_PORT: Final = 65535

_CONNECT_S: Final = 5.0


def require_free_port(host: str, port: int) -> None:
    """Refuse a port that the service could not listen on; Ray Serve would try for a minute and fail with a traceback.

    Raises:
        Conflict: Another program listens on the port.
        InvalidConfig: The host is not one of this machine, or the port needs other rights.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do not matter
            probe.bind(address)
    except OSError as error:  # `socket.gaierror` too
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} of {host} is taken by another program; stop it or give another one with --port"
            ) from error
        raise InvalidConfig(f"the service cannot listen on {host}, port {port}: {error.strerror}") from error


def free_port(host: str) -> int:
    """Return a port that no program listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def url_of(host: str, port: int) -> str:
    """Return the URL at which this machine reaches the service.

    >>> url_of("127.0.0.1", 8000), url_of("0.0.0.0", 80), url_of("::1", 80)
    ('http://127.0.0.1:8000', 'http://127.0.0.1:80', 'http://[::1]:80')
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach a host.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_cluster(address: str) -> None:
    """Refuse an address where nothing listens; Ray would try for minutes.

    Raises:
        InvalidConfig: Nothing listens there. `auto` is left to Ray, which looks for a cluster on this machine.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit() or int(port) > LARGEST_PORT:
        raise InvalidConfig(
            f"{address!r} is not the address of a Ray cluster; give auto or host:port, such as 10.0.0.5:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        raise no_cluster(address, error) from error


def no_cluster(address: str, error: BaseException) -> InvalidConfig:
    """Return the error for an address without a Ray cluster."""
    return InvalidConfig(
        f"there is no Ray cluster at {address}: {' '.join(str(error).split())}; without --address and RAY_ADDRESS "
        "motserve starts Ray of its own"
    )
