"""Executes a Dockerfile without Docker: each stage in its own folder by chroot, as root on Linux.

    python deploy/docker/run_in_chroot.py build --output DIR --base IMAGE=FOLDER [--build-arg NAME=VALUE]
    python deploy/docker/run_in_chroot.py start --output DIR [--env NAME=VALUE] [--bind PATH=PATH] [-- COMMAND]

`build` executes every COPY and RUN of the last stage, or of `--target`, and of the stages that it depends on. A base
image is a folder with its files; `debootstrap --variant=minbase bookworm FOLDER` creates one for
`debian:bookworm-slim`. `start` runs ENTRYPOINT and CMD in the tree as the image's user, in an isolated network without
internet access. Once HEALTHCHECK passes, it runs the command, which reaches the container at 172.30.0.2. Then it stops
the container with the image's stop signal.

Layers are not cached: every build starts from the beginning, except for the caches of `RUN --mount=type=cache`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from docker.utils.build import exclude_paths
from dockerfile import Dockerfile, Instruction, Stage, expand, mount, pairs, parse
from pydantic import TypeAdapter

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ADDRESS = "172.30.0.2"
"""Address of the container in its network; a service that listens only on the loopback is not reachable there."""
HEALTHY_S = 600.0
"""Timeout of the first health check; longer than that of any HEALTHCHECK, because the machine may be busy."""
STOP_S = 60.0


@dataclass(frozen=True)
class Image:
    """A folder with the files of an image, and how to start it."""

    tree: str
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    user: str = "0"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"


_IMAGE = TypeAdapter(Image)


class Builder:
    """Builds stages in folders.

    Args:
        dockerfile: The Dockerfile.
        context: Build context, with its `.dockerignore`.
        output: Folder for the trees of the stages.
        bases: Folder with the files of each base image.
        arguments: Values of `ARG`.
        binds: Files and folders of this machine to mount for RUN, such as the certificate of a mirror, and their paths
            in the image.
        environment: Variables for RUN that the image does not keep.
    """

    def __init__(
        self,
        dockerfile: Dockerfile,
        context: Path,
        output: Path,
        *,
        bases: Mapping[str, Path],
        arguments: Mapping[str, str],
        binds: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._stages = {stage.name: stage for stage in dockerfile.stages}
        self._globals = dockerfile.arguments | dict(arguments)
        self._arguments = arguments
        self._context = context
        self._output = output
        self._bases = bases
        self._binds = binds or {}
        self._environment = environment or {}
        self._built: dict[str, Image] = {}

    def build(self, name: str) -> Image:
        """Build a stage and the stages that it depends on."""
        if name in self._built:
            return self._built[name]
        if name not in self._stages:
            if name not in self._bases:
                raise ValueError(f"the base image {name} has no folder; give one with --base {name}=FOLDER")
            return Image(str(self._bases[name]))
        stage = self._stages[name]
        parent = self.build(expand(stage.base, self._globals))
        self._built[name] = self._stage(stage, parent) if stage.instructions else parent
        return self._built[name]

    def _stage(self, stage: Stage, parent: Image) -> Image:
        tree = self._output / stage.name
        shutil.rmtree(tree, ignore_errors=True)
        tree.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", "--reflink=auto", parent.tree, tree], check=True)
        image = replace(parent, tree=str(tree))
        variables: dict[str, str] = {}
        for instruction in stage.instructions:
            began = time.monotonic()
            print(f"{stage.name}:{instruction.line} {instruction.name} {instruction.value}", flush=True)
            image = self._execute(instruction, image, variables)
            if (duration_s := time.monotonic() - began) > 1:
                print(f"    {duration_s:.0f} s", flush=True)
        return image

    def _execute(self, instruction: Instruction, image: Image, variables: dict[str, str]) -> Image:
        value = expand(instruction.value, image.environment | variables)
        match instruction.name:
            case "ARG":
                name, _, default = value.partition("=")
                variables[name] = self._arguments.get(name, default or self._globals.get(name, ""))
            case "ENV":
                return replace(image, environment=image.environment | pairs(value))
            case "WORKDIR":
                image = replace(image, workdir=str(Path(image.workdir) / value))
                _inside(image, image.workdir).mkdir(parents=True, exist_ok=True)
            case "USER":
                return replace(image, user=value)
            case "COPY":
                self._copy(instruction, value, image)
            case "RUN":
                self._run(instruction, image, variables)
            case "ENTRYPOINT":  # it resets the command of the base image
                return replace(image, entrypoint=tuple(json.loads(value)), command=())
            case "CMD":
                return replace(image, command=tuple(json.loads(value)))
            case "HEALTHCHECK":
                return replace(image, healthcheck=tuple(json.loads(value.removeprefix("CMD"))))
            case "STOPSIGNAL":
                return replace(image, stop_signal=value)
            case "VOLUME" | "EXPOSE":
                pass
            case _:
                raise ValueError(f"line {instruction.line}: {instruction.name} is not supported")
        return image

    def _copy(self, instruction: Instruction, value: str, image: Image) -> None:
        *names, to = shlex.split(value)
        target = _inside(image, str(Path(image.workdir) / to))
        if instruction.flags.keys() - {"from"}:
            raise ValueError(f"line {instruction.line}: COPY supports only the flag --from")
        if "from" in instruction.flags:
            root = Path(self.build(instruction.flags["from"][0]).tree)
            sources = [root / name.lstrip("/") for name in names]
        else:
            root = self._context
            included = included_paths(root)
            sources = [root / name for name in names]
            if missing := [name for name in names if name not in included]:
                raise ValueError(f"line {instruction.line}: missing, or excluded by .dockerignore: {missing}")
        if to.endswith("/") or len(sources) > 1:
            target.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if "from" in instruction.flags or not source.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                # the contents of a folder are copied, not the folder
                subprocess.run(["cp", "--archive", f"{source}/." if source.is_dir() else source, target], check=True)
                continue
            for file in sorted(root / path for path in included):
                if not (file.is_file() or file.is_symlink()) or source not in file.parents:
                    continue
                copy = target / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, copy, follow_symlinks=False)  # Docker keeps links in folders

    def _run(self, instruction: Instruction, image: Image, variables: Mapping[str, str]) -> None:
        mounts = list(self._binds.items())
        for text in instruction.flags.get("mount", []):
            keys = mount(text)
            if keys["type"] == "cache":
                folder = self._output / "caches" / keys["target"].strip("/").replace("/", "-")
                folder.mkdir(parents=True, exist_ok=True)
                mounts.append((str(folder), keys["target"]))
            elif keys["type"] == "bind" and "from" in keys:
                source = Path(self.build(keys["from"]).tree) / keys["source"].lstrip("/")
                mounts.append((str(source), keys["target"]))
            else:
                raise ValueError(f"line {instruction.line}: this mount is not supported: {text}")
        mounts.append((str(Path("/etc/resolv.conf").resolve()), "/etc/resolv.conf"))
        mount_points = [
            path for source, target in mounts if (path := _mount_point(Path(source), _inside(image, target)))
        ]
        environment = {**image.environment, **self._environment, **variables}
        command = chrooted(image, ["/bin/sh", "-c", instruction.value], mounts, environment)
        subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", *command], check=True)
        for path in reversed(mount_points):
            path.rmdir() if path.is_dir() else path.unlink()


def included_paths(context: Path) -> set[str]:
    """Return the files and folders of a build context that `.dockerignore` does not exclude."""
    ignored = (context / ".dockerignore").read_text().splitlines()
    patterns = [line.strip() for line in ignored if line.strip() and not line.startswith("#")]
    return set(exclude_paths(str(context), patterns, dockerfile=".dockerignore"))


def chrooted(
    image: Image, command: Iterable[str], mounts: Iterable[tuple[str, str]], environment: Mapping[str, str]
) -> list[str]:
    """Return a command line that runs a command in an image; run it in its own mount and PID namespaces.

    Args:
        image: The image; the command runs as its user in its working directory.
        command: The command.
        mounts: Pairs of a path on this machine and the absolute path in the image where it is mounted.
        environment: The complete environment of the command.
    """
    tree = image.tree
    lines = [
        "set -e",
        f"mount -t proc proc {tree}/proc",
        f"mount --rbind /dev {tree}/dev",
        f"mount -t tmpfs -o size=2g,mode=1777 shm {tree}/dev/shm",
        *(f"mount --bind {shlex.quote(source)} {shlex.quote(tree + target)}" for source, target in mounts),
    ]
    home = _home(image)
    inner = shlex.join(command)
    variables = shlex.join(f"{name}={value}" for name, value in {"HOME": home, **environment}.items())
    lines.append(
        f"exec chroot --userspec={image.user}:{image.user} --groups= {tree} env -i {variables} "
        f"/bin/sh -c {shlex.quote(f'cd {shlex.quote(image.workdir)} && exec {inner}')}"
    )
    return ["sh", "-c", "\n".join(lines)]


def size_mb(path: str | Path) -> float:
    """Return the size of all files under a path in megabytes (10^6 bytes); hard links count once."""
    output = subprocess.run(["du", "--summarize", "--bytes", path], check=True, capture_output=True, text=True).stdout
    return int(output.split()[0]) / 1e6


def start(image: Image, environment: Mapping[str, str], binds: Mapping[str, str], command: list[str]) -> int:
    """Start an image like `docker run`, wait until it is healthy, run a command outside of it, and stop it.

    Call it in its own network, mount and PID namespaces.

    Args:
        image: The image.
        environment: Variables in addition to those of the image.
        binds: Files and folders of this machine to mount, and their paths in the container.
        command: The command to run outside the container.

    Returns:
        The exit status of the command; 1 if the container did not become healthy or had to be killed.
    """
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"], check=True)
    # as Docker writes it; Ray looks up its own address
    hosts = Path(image.tree).with_name("hosts")
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {os.uname().nodename}\n")
    mounts = [(str(hosts), "/etc/hosts"), *binds.items()]
    for source, target in mounts:
        _mount_point(Path(source), _inside(image, target))
    began = time.monotonic()
    entrypoint = chrooted(image, [*image.entrypoint, *image.command], mounts, {**image.environment, **environment})
    container = subprocess.Popen(["unshare", "--mount", *entrypoint])  # every step is an exec: signals reach ENTRYPOINT
    status = 1
    try:
        if _becomes_healthy(image, container):
            print(f"healthy after {time.monotonic() - began:.0f} s", flush=True)
            status = subprocess.run(command, check=False).returncode if command else 0
        else:
            print(f"not healthy after {time.monotonic() - began:.0f} s", flush=True)
    finally:
        began = time.monotonic()
        container.send_signal(signal.Signals[image.stop_signal])
        try:
            print(f"exit status {container.wait(STOP_S)} {time.monotonic() - began:.0f} s after {image.stop_signal}")
        except subprocess.TimeoutExpired:
            container.kill()
            print(f"killed: still running {STOP_S:.0f} s after {image.stop_signal}")
            status = 1
    return status


def _becomes_healthy(image: Image, container: subprocess.Popen[bytes]) -> bool:
    probe = ["chroot", f"--userspec={image.user}:{image.user}", image.tree, *image.healthcheck]
    deadline = time.monotonic() + HEALTHY_S
    while container.poll() is None and time.monotonic() < deadline:
        if subprocess.run(probe, env=image.environment, capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(2)
    return False


def _inside(image: Image, path: str) -> Path:
    return Path(image.tree) / path.lstrip("/")


def _mount_point(source: Path, target: Path) -> Path | None:
    """Create the file or folder to mount on; return it if it was created, so that it can be removed afterwards."""
    if target.exists():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir() if source.is_dir() else target.touch()
    return target


def _home(image: Image) -> str:
    for line in _inside(image, "/etc/passwd").read_text().splitlines():
        name, _, uid, _, _, home, _ = line.split(":")
        if image.user in (name, uid):
            return home
    return "/"


def _assignments(texts: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def main() -> None:
    """Parse the command line and run the action."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["build", "start"])
    parser.add_argument("--output", type=Path, required=True, help="folder for the trees, image.json and caches")
    parser.add_argument("--file", type=Path, default=Path("Dockerfile"))
    parser.add_argument("--context", type=Path, default=Path())
    parser.add_argument("--target", help="stage to build; default: the last one")
    parser.add_argument("--base", action="append", default=[], metavar="IMAGE=FOLDER")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--bind", action="append", default=[], metavar="PATH=PATH", help="source=target")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="not stored in the image")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    # argparse would parse the options of the command as its own
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    command = sys.argv[end + 1 :]
    options = parser.parse_args(sys.argv[1:end])
    output: Path = options.output.absolute()
    if options.action == "build":
        dockerfile = parse(options.file.read_text())
        builder = Builder(
            dockerfile,
            options.context.absolute(),
            output,
            bases={image: Path(folder).absolute() for image, folder in _assignments(options.base).items()},
            arguments=_assignments(options.build_arg),
            binds=_assignments(options.bind),
            environment=_assignments(options.env),
        )
        image = builder.build(options.target or dockerfile.stages[-1].name)
        (output / "image.json").write_bytes(_IMAGE.dump_json(image, indent=1))
        print(f"{image.tree}: {size_mb(image.tree):.0f} MB")
    elif not options.inside:
        # runs this script again in its own namespaces: no process or mount outlives it
        namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        inner = [sys.executable, __file__, "--inside", *sys.argv[1:]]
        sys.exit(subprocess.run(["unshare", *namespaces, *inner], check=False).returncode)
    else:
        image = _IMAGE.validate_json((output / "image.json").read_bytes())
        sys.exit(start(image, _assignments(options.env), _assignments(options.bind), command))


if __name__ == "__main__":
    main()
