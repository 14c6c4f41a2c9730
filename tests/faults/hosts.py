"""Hosts of their own on one machine: network namespaces on a bridge, whose links can be cut, slowed and half closed.

It needs Linux, root, and the programs `ip`, `tc` and `nft`. Hosts share files and clock.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

BRIDGE = "motserve-br"
TABLE = "motserve_faults"
PROGRAMS = ("ip", "tc", "nft", "mount", "mkfs.ext4", "fsfreeze")


def missing() -> str:
    """Return what the machine lacks, in words; empty if hosts can be made."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def command(*words: str, check: bool = True) -> None:
    """Run a program of the system.

    Raises:
        RuntimeError: It fails.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


class Host:
    """One host.

    Args:
        number: 1 to 250, the last part of its address.
        name: Name of its network namespace.
        folder: Folder of its `/tmp/ray`, so that the processes of Ray of several hosts do not meet there.
    """

    def __init__(self, number: int, name: str, folder: Path) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self._link = f"motserve-{number}"
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> None:
        """Make the host and connect it."""
        command("ip", "netns", "add", self.name)
        command("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        command("ip", "link", "set", self._link, "master", BRIDGE, "up")
        inside = ("ip", "-n", self.name)
        command(*inside, "link", "set", "lo", "up")
        command(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        command(*inside, "link", "set", "eth0", "up")

    def run(self, words: Sequence[str], log: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a program on the host, in a session of its own."""
        own = f'mkdir -p /tmp/ray && mount --bind {self._folder} /tmp/ray && exec "$@"'
        enter = ("ip", "netns", "exec", self.name, "sh", "-c", own, "sh")
        return subprocess.Popen([*enter, *words], stdout=log, stderr=log, env=env, start_new_session=True)

    def processes(self) -> list[int]:
        """Return all processes of the host."""
        listed = subprocess.run(("ip", "netns", "pids", self.name), capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the host."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def cut(self) -> None:
        """Cut the link: packets are lost both ways, and no connection is closed."""
        command("ip", "link", "set", self._link, "down")

    def lose_answers(self) -> None:
        """Half close the link: packets arrive, and those that the host sends are lost."""
        command("nft", "add", "table", "bridge", TABLE)
        command("nft", f"add chain bridge {TABLE} lost {{ type filter hook forward priority 0; }}")
        command("nft", f"add chain bridge {TABLE} input {{ type filter hook input priority 0; }}")
        for chain in ("lost", "input"):
            command("nft", "add", "rule", "bridge", TABLE, chain, "iifname", self._link, "drop")

    def slow(self, rate: str = "2mbit") -> None:
        """Slow down what is sent to the host and by it."""
        shape = ("root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")
        command("tc", "qdisc", "replace", "dev", self._link, *shape)
        command("ip", "netns", "exec", self.name, "tc", "qdisc", "replace", "dev", "eth0", *shape)

    def mend(self) -> None:
        """Undo whatever was done to the link."""
        command("ip", "link", "set", self._link, "up")
        command("nft", "delete", "table", "bridge", TABLE, check=False)
        command("tc", "qdisc", "del", "dev", self._link, "root", check=False)
        command("ip", "netns", "exec", self.name, "tc", "qdisc", "del", "dev", "eth0", "root", check=False)

    def end(self) -> None:
        """Kill all processes of the host, and remove it."""
        self.signal(signal.SIGKILL)
        command("ip", "link", "del", self._link, check=False)
        command("ip", "netns", "del", self.name, check=False)


class Network:
    """Connects hosts with each other and with this process."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    def __enter__(self) -> None:
        with ExitStack() as begun:
            begun.callback(self.__exit__)
            self.__exit__()  # what an earlier run left
            command("ip", "link", "add", BRIDGE, "type", "bridge")
            command("ip", "addr", "add", "10.77.0.254/24", "dev", BRIDGE)
            command("ip", "link", "set", BRIDGE, "up")
            for host in self._hosts:
                host.begin()
            begun.pop_all()

    def __exit__(self, *_: Any) -> None:
        for host in self._hosts:
            host.end()
        command("nft", "delete", "table", "bridge", TABLE, check=False)
        command("ip", "link", "del", BRIDGE, check=False)


class Disk:
    """A small disk of its own, which can be filled and stuck.

    Args:
        image: File that holds it.
        folder: Where it is mounted.
        megabytes: Its size.
    """

    def __init__(self, image: Path, folder: Path, megabytes: int = 2048) -> None:
        self.folder = folder
        self._image = image
        self._megabytes = megabytes

    def __enter__(self) -> Disk:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(self._megabytes << 20)
        command("mkfs.ext4", "-q", "-m", "0", str(self._image))
        command("mount", "-o", "loop", str(self._image), str(self.folder))
        return self

    def __exit__(self, *_: Any) -> None:
        self.go_on()
        command("umount", "--lazy", str(self.folder), check=False)
        self._image.unlink(missing_ok=True)

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.folder / "filler").open("wb") as file, suppress(OSError):
            size = 1 << 26
            while size >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), size)
                    file.seek(size, os.SEEK_CUR)
                except OSError:
                    size //= 2

    def empty(self) -> None:
        """Free what `fill` took."""
        (self.folder / "filler").unlink(missing_ok=True)

    def stick(self) -> None:
        """Let every write wait."""
        command("fsfreeze", "--freeze", str(self.folder))

    def go_on(self) -> None:
        """Let writes go on."""
        command("fsfreeze", "--unfreeze", str(self.folder), check=False)
