"""Installs a wheel where nothing of the source tree can be seen, and uses it as its users will.

python deploy/release/check_wheel.py dist/motserve-0.1.0-py3-none-any.whl --constraint deploy/docker/constraints.txt

What is in the wheel is looked at first. Then a virtual environment is made and the wheel installed into it, with all
that it needs: gigabytes, minutes. There the commands run in an empty folder, without a network and without settings of
this machine: the version, the schema of the configuration, a rendered clip tracked with the bundled weights by the
command line and by the service.
"""

from __future__ import annotations

import argparse
import email
import json
import os
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
    "motserve/models/bundled/detector.safetensors",
    "motserve/models/bundled/detector.md",
    "motserve/models/bundled/embedder.safetensors",
    "motserve/models/bundled/embedder.md",
    "motserve/models/bundled/aflink.safetensors",
    "motserve/models/bundled/aflink.md",
)
FITTING = (".py", "py.typed", ".safetensors", ".md")
LIMIT_BYTES = 20_000_000
"""A wheel is 7 MB, most of it weights; one that holds data or checkpoints is far larger."""

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
    """A wheel is not what it should be; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """What a wheel says of itself.

    Attributes:
        version: Its version.
        python: The Pythons that it claims to run with, such as `>=3.10`.
        torch: Its requirements of PyTorch.
    """

    version: str
    python: str
    torch: tuple[str, ...]


def inspect(path: Path, version: str | None = None) -> Wheel:
    """Look into a wheel.

    Args:
        path: The wheel.
        version: The version that it must have; None for any.

    Raises:
        Unfit: Something is missing, foreign, or says something else than it should.
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
    torch = tuple(text for text in metadata.get_all("Requires-Dist", []) if text.startswith("torch"))
    return Wheel(metadata["Version"], metadata["Requires-Python"], torch)


def faults_of(names: Iterable[str]) -> list[str]:
    """Return what is wrong with the files of a wheel, nothing where they are what they should be."""
    present = set(names)
    folders = {name.partition("/")[0] for name in present}
    strange = sorted(name for name in folders if name != "motserve" and not name.endswith(".dist-info"))
    unfit = sorted(name for name in present if name.startswith("motserve/") and not name.endswith(FITTING))
    faults = [f"{name} is missing" for name in NEEDED if name not in present]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in present):
        faults.append("the text of the licence is missing")
    return faults + [f"{name} does not belong into it" for name in strange + unfit]


class Environment:
    """A virtual environment with nothing but a wheel and what it needs.

    Args:
        folder: Where it is made; the folder in which commands run is beside it.
        python: The Python that it is made with.
    """

    def __init__(self, folder: Path, python: str) -> None:
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self._bin = folder / "venv" / "bin"
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
        # a setting of this machine, or its network, must not be what makes the wheel work
        foreign = ("MOTSERVE_", "PYTHON", "MLFLOW_", "RAY_", "YOLO_", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        near = {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
        home = {"HOME": str(folder), "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}"}
        self._outer = kept
        self._inner = {**kept, **nowhere, **near, **home, "COLUMNS": "150"}

    def pip(self, *arguments: str) -> None:
        """Run pip with the network and the settings of this machine."""
        self._run(self._outer, "python", "-m", "pip", "--disable-pip-version-check", *arguments)

    def run(self, command: str, *arguments: str) -> str:
        """Run a program of the environment in the empty folder and return what it prints.

        Raises:
            Unfit: It fails.
        """
        return self._run(self._inner, command, *arguments)

    def _run(self, variables: dict[str, str], command: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._bin / command), *arguments],
            cwd=self.work, env=variables, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise Unfit(f"{command} {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


def use(environment: Environment, version: str, serve_config: Path) -> dict[str, Any]:
    """Use what is installed as a newcomer would, and return what was seen.

    Args:
        environment: Where the wheel is installed.
        version: The version that it must say it has.
        serve_config: The service that is started; of the source tree this alone is needed.

    Raises:
        Unfit: A command fails, or gives something else than it should.
    """
    place = environment.run("python", "-c", "import motserve; print(motserve.__file__)").strip()
    if "site-packages" not in place:
        raise Unfit(f"motserve was imported from {place}, not from the wheel")
    if (told := environment.run("motserve", "--version").strip()) != f"motserve {version}":
        raise Unfit(f"motserve --version says {told!r}")
    environment.run("motserve", "--help")
    schema = json.loads(environment.run("motserve", "config", "schema"))
    environment.run("python", "-c", SCENE)
    environment.run("motserve", "track", "clip.mp4", *BUNDLED, "--output", "tracked", "--save-video")
    tracked = json.loads((environment.work / "tracked" / "tracks.json").read_text())
    (environment.work / "serve_config.yaml").write_bytes(serve_config.read_bytes())
    environment.run("motserve", "demo", *BUNDLED, "--seconds", "4", "--output", "demo")
    served = (environment.work / "demo" / "tracks.txt").read_text().splitlines()
    boxes = [box for frame in tracked["frames"] for box in frame["tracks"]]
    seen: dict[str, Any] = {
        "settings": len(schema["properties"]),
        "frames": len(tracked["frames"]),
        "boxes": len(boxes),
        "identities": len({box["id"] for box in boxes}),
        "served_rows": len(served),
        "weights": {role: used["name"] for role, used in tracked["models"].items() if used},
        "videos_bytes": {
            name: (environment.work / name / "annotated.mp4").stat().st_size for name in ("tracked", "demo")
        },
    }
    if seen["frames"] < 50 or seen["boxes"] < seen["frames"] or len(served) < seen["frames"]:
        raise Unfit(f"next to nobody was followed through the clip: {seen}")
    return seen


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and check a wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--contents", action="store_true", help="look into it and do no more")
    parser.add_argument("--version", help="the version that it must have")
    parser.add_argument("--python", default=sys.executable, help="the Python it is installed for")
    parser.add_argument("--constraint", type=Path, help="versions of what it needs; the latest where there is none")
    parser.add_argument("--torch-index", help="where PyTorch comes from: its CPU builds have an index of their own")
    parser.add_argument("--serve-config", type=Path, default=Path("serve_config.yaml"))
    parser.add_argument("--folder", type=Path, help="where it is done and left; a temporary one that goes by default")
    asked = parser.parse_args(arguments)
    try:
        wheel = inspect(asked.wheel, asked.version)
        print(f"{asked.wheel.name}: {asked.wheel.stat().st_size:,} bytes, for Python {wheel.python}")
        if asked.contents:
            return
        with tempfile.TemporaryDirectory() as temporary:
            environment = Environment((asked.folder or Path(temporary) / "wheel").absolute(), asked.python)
            versions = ["--constraint", str(asked.constraint.absolute())] if asked.constraint else []
            if asked.torch_index:
                # what it needs besides comes from PyPI with the rest: its own index has few versions
                environment.pip("install", *wheel.torch, "--index-url", asked.torch_index, "--no-deps", *versions)
            environment.pip("install", str(asked.wheel.absolute()), *versions)
            environment.pip("check")
            print(json.dumps(use(environment, wheel.version, asked.serve_config), indent=1))
    except Unfit as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
