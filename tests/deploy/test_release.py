from __future__ import annotations

import doctest
import json
import re
import shutil
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import check_wheel
import licences
import pytest
import yaml
from packaging.specifiers import SpecifierSet
from programs import output_of, program

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


# ---- versions


def test_the_changelog_begins_with_the_version_of_the_project(project: dict[str, Any]) -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0].startswith(f"[{project['version']}] - ")
    for heading in headings:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - (Unreleased|\d{4}-\d{2}-\d{2})", heading), heading
    assert [heading for heading in headings[1:] if "Unreleased" in heading] == []
    numbers = [tuple(map(int, re.findall(r"\d+", heading)[:3])) for heading in headings]
    assert numbers == sorted(numbers, reverse=True)


def test_the_changelog_sorts_changes_by_kind() -> None:
    assert set(re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)) <= KINDS


def test_all_image_tags_have_the_version_of_the_project(project: dict[str, Any]) -> None:
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.yaml")]
    named = [
        (path.name, tag)
        for path in files
        for tag in re.findall(r"\bmotserve(?:-mlflow)?:(\d[\w.]*\w)", path.read_text(encoding="utf-8"))
    ]
    assert len(named) > 5  # deploy.md and the dev overlay
    assert [one for one in named if one[1] != project["version"]] == []


# ---- wheel

GOOD = [
    *check_wheel.NEEDED,
    "motserve/__init__.py",
    "motserve/config/shipped/configs/reid.yaml",
    "motserve-1.0.dist-info/METADATA",
    "motserve-1.0.dist-info/licenses/LICENSE",
]


def test_a_correct_wheel_has_no_faults() -> None:
    assert check_wheel.faults_of(GOOD) == []


@pytest.mark.parametrize("missing", [*check_wheel.NEEDED, GOOD[-1]])
def test_a_missing_file_of_a_wheel_is_a_fault(missing: str) -> None:
    (fault,) = check_wheel.faults_of(name for name in GOOD if name != missing)
    assert "missing" in fault


@pytest.mark.parametrize(
    ("foreign", "named"),
    [
        ("tests/cli/test_cli.py", "tests"),
        ("deploy/docker/constrain.py", "deploy"),
        ("training/detector/best.pt", "training/detector/best.pt"),
        ("motserve/models/notes.yaml", "motserve/models/notes.yaml"),
        ("motserve/models/bundled/last.pt", "motserve/models/bundled/last.pt"),
        ("motserve/data/jobs.sqlite", "motserve/data/jobs.sqlite"),
    ],
)
def test_a_foreign_file_of_a_wheel_is_a_fault(foreign: str, named: str) -> None:
    assert check_wheel.faults_of([*GOOD, foreign]) == [f"{named} does not belong into it"]


def test_a_wheel_of_another_version_or_licence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "motserve-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in GOOD:
            text = "Version: 1.0\nLicense-Expression: MIT\nRequires-Python: >=3.10\n" if "METADATA" in name else ""
            archive.writestr(name, text)
    with pytest.raises(check_wheel.Unfit, match=r"licence is MIT; its version is 1.0, and 2.0 was expected"):
        check_wheel.inspect(path, "2.0")


def test_the_classifiers_match_the_supported_python_versions(project: dict[str, Any]) -> None:
    named = [text.rpartition(" ")[2] for text in project["classifiers"] if re.search(r":: 3\.\d+$", text)]
    supported = SpecifierSet(project["requires-python"])
    assert named
    assert all(python in supported for python in named)
    assert "3.9" not in supported


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source distribution of the tree, built as for a release."""
    if find_spec("build") is None:
        pytest.skip("build is not installed; it is in the extra `release`")
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"  # setuptools leaves files of its own beside what it builds
    ignored = shutil.ignore_patterns(".git", ".venv", "data", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, ignore=ignored)
    output_of(sys.executable, "-m", "build", "--outdir", folder, source)
    return folder


@pytest.mark.slow
def test_the_source_distribution_has_the_files_to_start_a_service_and_no_tests(dist: Path) -> None:
    names = output_of("tar", "tzf", next(dist.glob("*.tar.gz"))).splitlines()
    inside = {name.partition("/")[2] for name in names}
    assert {"serve_config.yaml", "CHANGELOG.md", "configs/environments/prod.yaml", "LICENSE"} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "deploy/", "data/"))]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_wheel_works_outside_the_source_tree(dist: Path, project: dict[str, Any]) -> None:
    (wheel,) = dist.glob("*.whl")
    output_of(program("twine"), "check", "--strict", *dist.glob("motserve*"))
    script = ROOT / "deploy" / "release" / "check_wheel.py"
    constraint = ROOT / "deploy" / "docker" / "constraints.txt"
    output = output_of(sys.executable, script, wheel, "--version", project["version"], "--constraint", constraint)
    summary = json.loads(output.partition("\n")[2])
    assert summary["weights"] == {"detector": "bundled", "reid": "bundled"}
    assert summary["identities"] >= 4


# ---- licences


def rows() -> dict[str, list[str]]:
    """The table of all packages in docs/licences.md: version, licence, its source, and its compatibility."""
    lines = (ROOT / "docs" / "licences.md").read_text().partition("## All ")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {name: rest for name, *rest in cells[2:]}


def test_the_licences_are_those_of_the_packages_in_the_images() -> None:
    assert {name: row[0] for name, row in rows().items()} == licences.pinned()


def test_the_licences_are_those_that_the_packages_state() -> None:
    import importlib_metadata  # noqa: F401  # once imported, it replaces the metadata classes, with rules of its own

    compared = 0
    for name, (pinned, expression, source, fits) in rows().items():
        try:
            if version(name).partition("+")[0] != pinned:
                continue
        except PackageNotFoundError:  # such as NVIDIA's where PyTorch is for CPUs
            continue
        licence = licences.licence_of(distribution(name))
        assert (licence.expression, licence.source) == (expression, source), f"{name}: run make licences"
        assert (fits == "in doubt") == licences.in_doubt(expression), name
        compared += 1
    assert compared > 50


def test_every_doubt_and_every_copyleft_is_explained() -> None:
    patterns = [re.escape(name).replace(r"\*", ".*") for care in licences.rules().care for name in care.packages]
    needing = [name for name, row in rows().items() if row[3] == "in doubt" or re.search("GPL|MPL", row[1])]
    assert "ultralytics" in needing
    assert [name for name in needing if not any(re.fullmatch(pattern, name) for pattern in patterns)] == []


class _Package:
    """A fake distribution with only the metadata of its licence."""

    def __init__(self, name: str, **metadata: str) -> None:
        from email.message import Message

        self.name = name
        self.metadata = Message()
        for key, value in metadata.items():
            self.metadata[key.replace("_", "-")] = value


def test_an_unknown_licence_is_an_error_that_says_where_to_add_it() -> None:
    for package in (_Package("new"), _Package("new", License="Beerware"), _Package("new", License="BSD")):
        with pytest.raises(licences.Unknown, match=r"new says .*licences.yaml"):
            licences.licence_of(package)  # type: ignore[arg-type]
    stated = _Package("new", License_Expression="MIT OR Apache-2.0", License="BSD")
    assert licences.licence_of(stated).expression == "MIT OR Apache-2.0"  # type: ignore[arg-type]


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(licences).failed == 0


# ---- bill of materials


def test_the_bill_of_materials_lists_all_packages_and_weights_of_the_images() -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is in the extra `release`")
    import sbom

    pinned = licences.pinned()
    try:
        bill = json.loads(sbom.write(sbom.bill("1.2.3")))  # the published schema has accepted it
    except licences.Unknown as error:
        pytest.skip(f"needs the versions of constraints.txt: {error}")
    assert bill["metadata"]["component"]["version"] == "1.2.3"
    packages = {one["name"]: one for one in bill["components"] if one["type"] == "library"}
    assert {name: one["version"] for name, one in packages.items()} == pinned
    assert packages["ultralytics"]["purl"] == f"pkg:pypi/ultralytics@{pinned['ultralytics']}"
    assert all(one["licenses"] for one in bill["components"])
    weights = {one["name"]: one["hashes"][0]["content"] for one in bill["components"] if one not in packages.values()}
    assert set(weights) == {
        f"motserve/models/bundled/{name}.safetensors"
        for name in ("detector", "detector-free", "embedder", "embedder-free", "aflink")
    }
    needs = {one["ref"]: set(one.get("dependsOn", [])) for one in bill["dependencies"]}
    assert packages["torch"]["bom-ref"] in needs[packages["ultralytics"]["bom-ref"]]
    reached, pending = set(), [bill["metadata"]["component"]["bom-ref"]]
    while pending:
        if (one := pending.pop()) not in reached:
            reached.add(one)
            pending += needs[one]
    assert {one["bom-ref"] for one in bill["components"]} <= reached


# ---- workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_valid(path: Path) -> None:
    output_of(program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path)
    output_of(program("zizmor"), "--offline", "--no-progress", path)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_with_their_versions_in_a_comment(path: Path) -> None:
    foreign = [line for line in path.read_text().splitlines() if "uses:" in line and "./" not in line]
    for line in foreign:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_workflows_and_makefile_name_files_that_exist() -> None:
    texts = [path.read_text() for path in (*WORKFLOWS, ROOT / "Makefile")]
    named = {name for text in texts for name in re.findall(r"\bdeploy/[\w./-]+\.(?:py|txt|Dockerfile)\b", text)}
    assert "deploy/release/check_wheel.py" in named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_wheel_is_tested_with_every_supported_python_version(project: dict[str, Any]) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    tested = workflow["jobs"]["install"]["strategy"]["matrix"]["python"]
    assert all(f"Programming Language :: Python :: {python}" in project["classifiers"] for python in tested)
    assert len(tested) == sum(bool(re.search(r":: 3\.\d+$", text)) for text in project["classifiers"])
