"""Installs a wheel outside the source tree and runs it as a user would.

python deploy/release/check_wheel.py dist/motserve-0.1.0-py3-none-any.whl --constraint deploy/docker/constraints.txt

It first checks the contents of the wheel. Then it installs the wheel and its requirements into a new virtual
environment, which takes gigabytes and minutes. The commands run there in an empty folder, without a network and without
settings of this machine: the version, the configuration schema, and a rendered clip tracked with the bundled weights.
Then it installs the extras `serve` and `train`; the service tracks the clip, and training shows its help.
"""

from __future__ import annotations

import argparse
import email
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEEDED = (
    "motserve/py.typed",
    "motserve/config/shipped/serve_config.yaml",
    "motserve/config/shipped/configs/tracker/botsort.yaml",
    "motserve/config/shipped/configs/training/detector.yaml",
    "training/detector/__main__.py",
    "motserve/models/bundled/detector.safetensors",
    "motserve/models/bundled/detector.md",
    "motserve/models/bundled/detector-free.safetensors",
    "motserve/models/bundled/detector-free.md",
    "motserve/models/bundled/LICENSE-NanoDet.txt",
    "motserve/models/bundled/embedder.safetensors",
    "motserve/models/bundled/embedder.md",
    "motserve/models/bundled/embedder-free.safetensors",
    "motserve/models/bundled/embedder-free.md",
    "motserve/models/bundled/aflink.safetensors",
    "motserve/models/bundled/aflink.md",
)
PACKAGES = ("motserve", "training")
SUFFIXES = (".py", "py.typed", ".safetensors", ".md", "LICENSE-NanoDet.txt")
CONFIGS = ("motserve/config/shipped/configs/", "motserve/config/shipped/serve_config.yaml")
LIMIT_BYTES = 32_000_000
"""A correct wheel has 19 MB, most of it weights; one with data or checkpoints is far larger."""

SCENE = """
from motserve.config import VideoConfig
from motserve.lab.scenes import SceneConfig, render
from motserve.video import VideoWriter
scene = SceneConfig(duration_s=4)
with VideoWriter("clip.mp4", scene.width, scene.height, VideoConfig(), scene.rate_hz) as writer:
    for rendered in render(scene):
        writer.write(rendered.frame.image, rendered.frame.timestamp)
"""

BUNDLED = ("--set", "detector.weights=bundled", "--set", "reid.weights=bundled")


class Unfit(Exception):
    """A wheel does not pass a check; the message says why."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Metadata of a wheel.

    Attributes:
        version: Its version.
        python: Supported versions of Python, such as `>=3.10`.
        torch: Its requirements that start with `torch`.
    """

    version: str
    python: str
    torch: tuple[str, ...]


def inspect(path: Path, version: str | None = None) -> Wheel:
    """Check the contents and the metadata of a wheel.

    Args:
        path: The wheel.
        version: The expected version; None for any.

    Raises:
        Unfit: A file is missing or does not belong into it, or the metadata are not as expected.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = email.message_from_bytes(archive.read(next(n for n in names if n.endswith(".dist-info/METADATA"))))
    faults = faults_of(names)
    if (size := path.stat().st_size) > LIMIT_BYTES:
        faults.append(f"it has {size:,} bytes, more than {LIMIT_BYTES:,}")
    if metadata["License-Expression"] != "AGPL-3.0-only":
        faults.append(f"its licence is {metadata['License-Expression']}")
    if version is not None and metadata["Version"] != version:
        faults.append(f"its version is {metadata['Version']}, and {version} was expected")
    if faults:
        raise Unfit(f"{path.name}: {'; '.join(faults)}")
    # without the requirements of extras, which have a marker
    torch = tuple(text for text in metadata.get_all("Requires-Dist", []) if re.match(r"torch[^;]*$", text))
    return Wheel(metadata["Version"], metadata["Requires-Python"], torch)


def faults_of(names: Iterable[str]) -> list[str]:
    """Return the faults of the files of a wheel; empty if there are none."""
    present = set(names)
    folders = {name.partition("/")[0] for name in present}
    foreign = sorted(name for name in folders if name not in PACKAGES and not name.endswith(".dist-info"))
    foreign += sorted(name for name in present if name.partition("/")[0] in PACKAGES and not _belongs(name))
    faults = [f"{name} is missing" for name in NEEDED if name not in present]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in present):
        faults.append("the text of the licence is missing")
    return faults + [f"{name} does not belong into it" for name in foreign]


def _belongs(name: str) -> bool:
    return name.endswith(SUFFIXES) or (name.startswith(CONFIGS) and name.endswith(".yaml"))


class Environment:
    """A virtual environment for a wheel and its requirements.

    Args:
        folder: Folder of the environment and of the empty folder in which commands run.
        python: The Python to create it with.
    """

    def __init__(self, folder: Path, python: str) -> None:
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self._bin = folder / "venv" / "bin"
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
        # the wheel must work without settings of this machine and without its network
        excluded = ("MOTSERVE_", "PYTHON", "MLFLOW_", "RAY_", "YOLO_", "VIRTUAL_ENV")
        outer = {name: value for name, value in os.environ.items() if not name.startswith(excluded)}
        no_network = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        loopback = {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
        home = {"HOME": str(folder), "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}"}
        self._outer = outer
        self._inner = {**outer, **no_network, **loopback, **home, "COLUMNS": "150"}

    def pip(self, *arguments: str) -> str:
        """Run pip with the network and the settings of this machine, and return what it prints."""
        return self._run(self._outer, "python", "-m", "pip", "--disable-pip-version-check", *arguments)

    def run(self, command: str, *arguments: str) -> str:
        """Run a program of the environment in the empty folder and return what it prints.

        Raises:
            Unfit: It fails.
        """
        return self._run(self._inner, command, *arguments)

    def refusal(self, command: str, *arguments: str) -> str:
        """Run a program that must end with exit code 2, and return the line that it prints on standard error.

        Raises:
            Unfit: It ends with another code, or prints more, such as a traceback.
        """
        done = self._result(self._inner, command, *arguments)
        if done.returncode != 2 or len(done.stderr.splitlines()) != 1:
            raise Unfit(f"{command} {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stderr.strip()

    def _run(self, variables: dict[str, str], command: str, *arguments: str) -> str:
        done = self._result(variables, command, *arguments)
        if done.returncode:
            raise Unfit(f"{command} {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def _result(self, variables: dict[str, str], command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._bin / command), *arguments],
            cwd=self.work, env=variables, check=False, capture_output=True, text=True,
        )  # fmt: skip


def use(environment: Environment, wheel: Wheel) -> dict[str, Any]:
    """Run the commands of a wheel without extras as a new user would, and return a summary of their results.

    Args:
        environment: The environment with the wheel.
        wheel: Its metadata.

    Raises:
        Unfit: A command fails, or its result is not as expected.
    """
    packages = {package["name"].lower() for package in json.loads(environment.pip("list", "--format", "json"))}
    if foreign := sorted({"ray", "mlflow", "fastapi"} & packages):
        raise Unfit(f"the installation without extras has {', '.join(foreign)}")
    path = environment.run("python", "-c", "import motserve; print(motserve.__file__)").strip()
    if "site-packages" not in path:
        raise Unfit(f"motserve was imported from {path}, not from the wheel")
    if (printed := environment.run("motserve", "--version").strip()) != f"motserve {wheel.version}":
        raise Unfit(f"motserve --version prints {printed!r}")
    environment.run("motserve", "--help")
    schema = json.loads(environment.run("motserve", "config", "schema"))
    environment.run("python", "-c", SCENE)
    environment.run("motserve", "track", "clip.mp4", *BUNDLED, "--output", "tracked", "--save-video")
    environment.run("motserve", "track", "clip.mp4", *BUNDLED, "--config", "tracker/botsort", "--output", "botsort")
    for extra, command in (("serve", ("motserve", "demo")), ("train", ("python", "-m", "training.detector"))):
        if not (line := environment.refusal(*command)).endswith(f"pip install 'motserve[{extra}]'"):
            raise Unfit(f"{' '.join(command)} does not name the extra {extra}: {line}")
    tracked = json.loads((environment.work / "tracked" / "tracks.json").read_text())
    boxes = [box for frame in tracked["frames"] for box in frame["tracks"]]
    summary: dict[str, Any] = {
        "packages": len(packages),
        "settings": len(schema["properties"]),
        "frames": len(tracked["frames"]),
        "boxes": len(boxes),
        "identities": len({box["id"] for box in boxes}),
        "weights": {role: used["name"] for role, used in tracked["models"].items() if used},
        "video_bytes": (environment.work / "tracked" / "annotated.mp4").stat().st_size,
    }
    frames = summary["frames"]
    if frames < 50 or summary["boxes"] < frames:
        raise Unfit(f"the clip has too few frames or boxes: {summary}")
    return summary


def use_extras(environment: Environment) -> dict[str, Any]:
    """Run the commands that need the extras `serve` and `train`, and return a summary of their results.

    Raises:
        Unfit: A command fails, or its result is not as expected.
    """
    environment.run("motserve", "demo", *BUNDLED, "--seconds", "4", "--output", "demo")
    environment.run("python", "-m", "training.detector", "--help")
    rows = (environment.work / "demo" / "tracks.txt").read_text().splitlines()
    if len(rows) < 50:
        raise Unfit(f"the service returned too few rows: {len(rows)}")
    return {
        "service_rows": len(rows),
        "service_video_bytes": (environment.work / "demo" / "annotated.mp4").stat().st_size,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and check a wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--contents", action="store_true", help="check only the contents")
    parser.add_argument("--version", help="the expected version")
    parser.add_argument("--python", default=sys.executable, help="the Python to install it for")
    parser.add_argument(
        "--constraint", type=Path, help="constraints file for the requirements; default: latest versions"
    )
    parser.add_argument("--torch-index", help="package index of PyTorch; that of its CPU builds, for example")
    parser.add_argument("--folder", type=Path, help="folder to work in and keep; default: a temporary folder")
    options = parser.parse_args(arguments)
    try:
        wheel = inspect(options.wheel, options.version)
        print(f"{options.wheel.name}: {options.wheel.stat().st_size:,} bytes, for Python {wheel.python}")
        if options.contents:
            return
        with tempfile.TemporaryDirectory() as temporary:
            environment = Environment((options.folder or Path(temporary) / "wheel").absolute(), options.python)
            versions = ["--constraint", str(options.constraint.absolute())] if options.constraint else []
            if options.torch_index:
                # the requirements of PyTorch come from PyPI with the rest: its own index has few versions
                environment.pip("install", *wheel.torch, "--index-url", options.torch_index, "--no-deps", *versions)
            environment.pip("install", str(options.wheel.absolute()), *versions)
            environment.pip("check")
            summary = use(environment, wheel)
            environment.pip("install", f"{options.wheel.absolute()}[serve,train]", *versions)
            environment.pip("check")
            print(json.dumps({**summary, **use_extras(environment)}, indent=1))
    except Unfit as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
