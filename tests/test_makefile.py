from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from programs import program

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
LINT, BENCHMARK, RELEASE = {"mypy", "ruff", "mutmut"}, {"trackers", "pyxtrackers"}, {"build", "twine", "zizmor"}


@pytest.fixture(scope="module")
def extras() -> dict[str, list[str]]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def packages(extras: dict[str, list[str]], name: str) -> set[str]:
    """The packages that an installation with an extra asks for, those of extras that it names included."""
    found, pending = set(), ["", name]
    while pending:
        for requirement in map(Requirement, extras[pending.pop()]):
            found.add(requirement.name)
            pending += sorted(requirement.extras) if requirement.name == "motserve" else []
    return found - {"motserve"}


def installed_by(verb: str, environment: Path) -> list[str]:
    """The extras that `make VERB` installs into an environment."""
    plan = subprocess.run(
        [program("make"), "--dry-run", "--no-print-directory", f"VENV={environment}", verb],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return re.findall(r'--editable "\.\[([\w,]+)\]"', plan)


@pytest.mark.parametrize(
    ("verb", "extra"),
    [("demo", "serve"), ("test", "test"), ("coverage", "test"), ("setup", "dev"), ("check", "dev"), ("bench", "dev")],
)
def test_each_verb_installs_one_extra(verb: str, extra: str, tmp_path: Path) -> None:
    assert installed_by(verb, tmp_path) == [extra]


@pytest.mark.parametrize(
    ("extra", "foreign"), [("serve", LINT | BENCHMARK | RELEASE | {"pytest"}), ("test", LINT | {"build"})]
)
def test_a_verb_installs_no_tools_of_others(extra: str, foreign: set[str], extras: dict[str, list[str]]) -> None:
    assert not packages(extras, extra) & foreign
    assert foreign <= packages(extras, "dev")


def test_an_environment_of_developers_needs_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bin/python", ".demo", ".test", ".all"):
        (tmp_path / name).touch()
    assert [installed_by(verb, tmp_path) for verb in ("setup", "test", "demo")] == [[], [], []]
    os.utime(tmp_path / ".test", (0, 0))  # older than pyproject.toml
    assert [installed_by(verb, tmp_path) for verb in ("demo", "test")] == [[], ["test"]]


def test_all_is_what_users_can_ask_for_and_the_images_hold_it(extras: dict[str, list[str]]) -> None:
    assert packages(extras, "all") == set.union(
        *(packages(extras, name) for name in ("serve", "train", "lab", "tracing"))
    )
    (named,) = re.findall(r"for name in \(([^)]*)\)\]", (ROOT / "Dockerfile").read_text())
    image = set.union(*(packages(extras, name.strip(" '")) for name in named.split(",")))
    assert image == packages(extras, "all")


def test_the_plain_installation_has_no_service_training_or_evaluation(extras: dict[str, list[str]]) -> None:
    assert not packages(extras, "") & {"ray", "mlflow", "fastapi", "optuna", "faiss-cpu", "pyarrow", "trackeval"}


def test_every_extra_that_is_named_exists(extras: dict[str, list[str]]) -> None:
    files = [ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("docs/*.md"), *ROOT.glob(".github/workflows/*.yml")]
    pattern = r'(?:motserve|"\.)\[([a-z,]+)\]'
    named = {name for path in files for names in re.findall(pattern, path.read_text()) for name in names.split(",")}
    code = "\n".join(path.read_text() for path in ROOT.glob("motserve/**/*.py"))
    named |= set(re.findall(r'required_extra\("(\w+)"', code))
    assert {"serve", "train", "lab", "dev"} <= named
    assert named <= extras.keys()
