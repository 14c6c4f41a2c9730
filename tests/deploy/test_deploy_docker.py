from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import dockerfile
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from programs import output_of, program
from run_in_chroot import Builder, Image, included_paths

from motserve.config import load_config

ROOT = Path(__file__).parents[2]
SERVICE, MLFLOW = ROOT / "Dockerfile", ROOT / "deploy" / "docker" / "mlflow.Dockerfile"
OBSERVABILITY = ROOT / "deploy" / "observability"
DOCKERFILES = pytest.mark.parametrize("path", [SERVICE, MLFLOW], ids=lambda path: path.name)
PASSWORDS = {"POSTGRES_PASSWORD": "p", "GRAFANA_PASSWORD": "g", "ADMIN_TOKEN": "0123456789abcdef"}

Compose = dict[str, Any]


def stages(path: Path, last: str | None = None, device: str = "cpu") -> Iterator[dockerfile.Stage]:
    """A stage, the last one by default, and the stages that it is based on."""
    parsed = dockerfile.parse(path.read_text())
    named = {stage.name: stage for stage in parsed.stages}
    name = last or parsed.stages[-1].name
    while name in named:
        yield named[name]
        name = dockerfile.expand(named[name].base, parsed.arguments | {"DEVICE": device})


def values(path: Path, name: str) -> list[str]:
    """The values of all instructions of one name in the final image, the latest first."""
    return [
        instruction.value
        for stage in stages(path)
        for instruction in reversed(stage.instructions)
        if instruction.name == name
    ]


@pytest.fixture(scope="module")
def compose() -> Compose:
    loaded: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def prometheus() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())
    return loaded


# ---- images


@DOCKERFILES
def test_hadolint_finds_nothing_in_a_dockerfile(path: Path) -> None:
    output_of(program("hadolint"), "--config", ROOT / ".hadolint.yaml", path)


@DOCKERFILES
def test_an_image_does_not_run_as_root_and_says_whether_it_is_healthy(path: Path) -> None:
    assert int(values(path, "USER")[0]) >= 1000
    assert values(path, "HEALTHCHECK")


@DOCKERFILES
def test_the_final_image_has_no_build_tools(path: Path) -> None:
    for stage in stages(path):
        for instruction in stage.instructions:
            if instruction.name == "RUN":
                installed = re.search(r"apt-get install .*?(?=&&|$)", instruction.value)
                assert not re.search(r"venv|pip|gcc|-dev|build-essential", installed[0] if installed else "")
                uses_pip = "pip" in instruction.value
                assert not uses_pip or any("target=/opt/pip" in mount for mount in instruction.flags.get("mount", []))


@DOCKERFILES
def test_all_copied_files_exist_and_are_in_the_build_context(path: Path) -> None:
    included = included_paths(ROOT)
    for stage in dockerfile.parse(path.read_text()).stages:
        for instruction in stage.instructions:
            if instruction.name == "COPY" and "from" not in instruction.flags:
                assert set(instruction.value.split()[:-1]) <= included, instruction


def test_the_build_context_has_no_passwords_data_or_compiled_files(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    for name in (".env", "data/x.mp4", "models/x.pt", "runs/x", ".git/config", "motserve/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "motserve" / "types.py").touch()
    assert {path for path in included_paths(tmp_path) if (tmp_path / path).is_file()} - {".dockerignore"} == {
        "motserve/types.py"
    }


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_device_has_a_base_and_a_build_of_pytorch(device: str) -> None:
    parsed = dockerfile.parse(SERVICE.read_text())
    bases = [dockerfile.expand(stage.base, parsed.arguments) for stage in stages(SERVICE, device=device)]
    assert bases[-1] == parsed.arguments[f"{device.upper()}_BASE"]
    assert ("nvidia/cuda" in bases[-1]) == (device == "cuda")
    assert [stage.name for stage in stages(SERVICE, "dependencies", device)][1] == f"torch-{device}"
    assert parsed.arguments["DEVICE"] == "cuda"


def test_the_package_is_built_with_what_its_links_point_to() -> None:
    (stage,) = (stage for stage in dockerfile.parse(SERVICE.read_text()).stages if stage.name == "package")
    copied = {name for one in stage.instructions if one.name == "COPY" for name in one.value.split()[:-1]}
    links = [path for path in (ROOT / "motserve").rglob("*") if path.is_symlink()]
    assert {path.resolve().relative_to(ROOT).as_posix() for path in links} == {"configs", "serve_config.yaml"}
    assert {"motserve", "training", "configs", "serve_config.yaml"} <= copied


def test_pinned_versions_satisfy_the_requirements_of_the_project() -> None:
    lines = (ROOT / "deploy" / "docker" / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = ("", "serve", "train", "lab", "tracing")
    for requirement in map(Requirement, requires("motserve") or ()):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_service_in_the_image_listens_on_all_addresses() -> None:
    pattern, text = next(
        match.groups()
        for run in values(SERVICE, "RUN")
        if (match := re.search(r"sed --in-place 's/(.*?)/(.*?)/'", run))
    )
    serve = (ROOT / "serve_config.yaml").read_text()
    assert yaml.safe_load(serve.replace(pattern, text))["http_options"]["host"] == "0.0.0.0"


def test_variables_of_the_image_are_valid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in values(SERVICE, "ENV"):
        for name, text in dockerfile.pairs(value).items():
            if name.startswith("MOTSERVE_"):
                monkeypatch.setenv(name, text)
    assert str(load_config().cache_dir) in json.loads(values(SERVICE, "VOLUME")[0])


# ---- compose


def test_compose_accepts_the_file(compose: Compose) -> None:
    command = [program("docker-compose", "docker")]
    if Path(command[0]).name == "docker":
        command.append("compose")
    if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose")
    command += ["--file", str(ROOT / "docker-compose.yml"), "--env-file", "/dev/null", "--profile", "*"]
    resolved = json.loads(output_of(*command, "config", "--format", "json", **PASSWORDS))
    assert resolved["services"].keys() == compose["services"].keys()


def test_every_service_has_a_health_check_and_dependencies_wait_for_it(compose: Compose) -> None:
    assert compose["services"].keys() == {"api", "api-gpu", "mlflow", "postgres", "prometheus", "grafana"}
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert all(how["condition"] == "service_healthy" for how in service.get("depends_on", {}).values()), name


def test_one_profile_has_gpus_and_the_other_none(compose: Compose) -> None:
    cpu, gpu = compose["services"]["api"], compose["services"]["api-gpu"]
    assert (cpu["profiles"], gpu["profiles"]) == (["cpu"], ["gpu"])
    assert (cpu["build"]["args"], gpu["build"]["args"]) == ({"DEVICE": "cpu"}, {"DEVICE": "cuda"})
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    assert "deploy" not in cpu
    assert cpu["networks"] == gpu["networks"] == {"default": {"aliases": ["api"]}}


@pytest.mark.parametrize("service", ["api", "api-gpu"])
def test_variables_of_the_service_are_valid_settings(
    service: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in compose["services"][service]["environment"].items():
        monkeypatch.setenv(name, value)
    config = load_config()
    host, _, port = config.mlflow.tracking_uri.removeprefix("http://").partition(":")
    assert f":{port}:{port}" in compose["services"][host]["ports"][0]
    assert f"--port={port}" in json.loads(values(MLFLOW, "ENTRYPOINT")[0])
    assert f"{host}:{port}" in values(MLFLOW, "CMD")[0]
    assert config.detector.weights[0].startswith("models:/")
    assert config.detector.weights[-1] == config.reid.weights[-1] == "bundled"


def test_every_volume_of_an_image_is_a_named_volume(compose: Compose) -> None:
    used = set()
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), volume
            used.add(source)
    assert used >= compose["volumes"].keys()
    for path, service in ((SERVICE, "api"), (SERVICE, "api-gpu"), (MLFLOW, "mlflow")):
        targets = {volume.split(":")[1] for volume in compose["services"][service]["volumes"]}
        assert targets == set(json.loads(values(path, "VOLUME")[0]))


def test_ports_are_the_same_wherever_they_are_named(compose: Compose, prometheus: dict[str, Any]) -> None:
    serving = yaml.safe_load((ROOT / "serve_config.yaml").read_text())["http_options"]["port"]
    metrics = re.search(r"--metrics-export-port=(\d+)", (ROOT / "deploy" / "docker" / "start.sh").read_text())
    assert metrics
    assert values(SERVICE, "EXPOSE") == [f"{serving} {metrics[1]}"]
    assert f"127.0.0.1:{serving}/readyz" in values(SERVICE, "HEALTHCHECK")[0]
    assert f"api:{metrics[1]}" in [
        target
        for job in prometheus["scrape_configs"]
        for config in job["static_configs"]
        for target in config["targets"]
    ]
    for service in ("api", "api-gpu"):
        assert compose["services"][service]["ports"][0].endswith(f":{serving}:{serving}")
        assert f":{serving}/readyz" in compose["services"][service]["healthcheck"]["test"][-1]


def test_passwords_are_in_no_file(compose: Compose) -> None:
    example = dict(line.split("=") for line in (ROOT / ".env.example").read_text().splitlines() if line[:1] not in "#")
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASS|SECRET|TOKEN|KEY", name):
                variable = re.fullmatch(r"\$\{(\w+):\?.+\}", value)
                assert variable, f"{name} does not come from .env, or is not required there"
                assert example[variable[1]] == "", "the example has a password"
            else:
                assert not re.search(r"://[^/@]*:[^/@]*@", value), name
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_ports_are_published_on_the_loopback_by_default(compose: Compose) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in service.get("ports", []))


# ---- observability


def test_prometheus_accepts_its_configuration(tmp_path: Path, prometheus: dict[str, Any], compose: Compose) -> None:
    promtool = program("promtool")
    folder = tmp_path / "prometheus"
    shutil.copytree(OBSERVABILITY / "prometheus", folder)
    mounted = compose["services"]["prometheus"]["volumes"][0].split(":")[1]
    prometheus = {**prometheus, "rule_files": [name.replace(mounted, str(folder)) for name in prometheus["rule_files"]]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(prometheus))
    output_of(promtool, "check", "config", folder / "prometheus.yml")


def test_grafana_finds_its_dashboards_and_their_data(compose: Compose) -> None:
    mounted = {}
    for volume in compose["services"]["grafana"]["volumes"]:
        source, target = volume.split(":")[:2]
        mounted[target] = ROOT / source
    provisioning = mounted["/etc/grafana/provisioning"]
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    providers = yaml.safe_load((provisioning / "dashboards" / "motserve.yml").read_text())["providers"]
    dashboards = [path for provider in providers for path in mounted[provider["options"]["path"]].glob("*.json")]
    assert dashboards
    for path in dashboards:
        dashboard = json.loads(path.read_text())
        assert dashboard["uid"]
        for panel in dashboard["panels"]:
            if "targets" in panel:
                assert panel["datasource"]["uid"] in [source["uid"] for source in sources], panel["title"]


def test_expressions_of_dashboards_are_valid(tmp_path: Path) -> None:
    promtool = program("promtool")
    rules = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for path in (OBSERVABILITY / "grafana" / "dashboards").glob("*.json")
        for number, panel in enumerate(json.loads(path.read_text())["panels"])
        for target in panel.get("targets", [])
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    output_of(promtool, "check", "rules", "--lint=none", tmp_path / "rules.yml")


# ---- execution without Docker


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(dockerfile).failed == 0


def test_a_continued_line_may_contain_comments() -> None:
    parsed = dockerfile.parse("FROM a AS b\nRUN --mount=type=cache,target=/x one \\\n    # why\n    && two\nUSER 1\n")
    run, user = parsed.stages[0].instructions
    assert (run.value, run.flags, run.line) == ("one && two", {"mount": ["type=cache,target=/x"]}, 2)
    assert (user.name, user.value, user.line) == ("USER", "1", 5)


def builder(tmp_path: Path, text: str, **arguments: str) -> Builder:
    """A builder of a Dockerfile without RUN on an empty base image."""
    context, base = tmp_path / "context", tmp_path / "base"
    (base / "etc").mkdir(parents=True)
    (context / "folder" / "inner").mkdir(parents=True)
    (context / "folder" / "inner" / "file").write_text("text")
    (context / "folder" / "left_out").touch()
    (context / "folder" / "link").symlink_to("inner")
    (context / ".dockerignore").write_text("*\n!folder\nfolder/left_out\n")
    parsed = dockerfile.parse(text)
    return Builder(parsed, context, tmp_path / "output", bases={"base": base}, arguments=arguments)


def test_stages_are_built_from_each_other_and_unneeded_ones_are_not(tmp_path: Path) -> None:
    text = """
        ARG FLAVOUR=none
        FROM base AS base-a
        FROM base-${FLAVOUR} AS first
        ENV PATH=/opt/bin:$PATH
        WORKDIR /work
        COPY folder here
        FROM missing AS unneeded
        FROM base-a AS last
        ENV NAME="a b"
        COPY --from=first /work/here/inner /inner/
        USER 10001
        ENTRYPOINT ["run", "it"]
        STOPSIGNAL SIGINT
    """
    image = builder(tmp_path, text, FLAVOUR="a").build("last")
    first, last = tmp_path / "output" / "first", tmp_path / "output" / "last"
    assert (first / "work" / "here" / "inner" / "file").read_text() == (last / "inner" / "file").read_text() == "text"
    assert not (first / "work" / "here" / "left_out").exists()
    assert (first / "work" / "here" / "link").readlink() == Path("inner")
    assert not (tmp_path / "output" / "unneeded").exists()
    assert (image.user, image.entrypoint, image.stop_signal) == ("10001", ("run", "it"), "SIGINT")
    assert image.environment == Image("").environment | {"NAME": "a b"}


def test_an_excluded_file_cannot_be_copied(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2: missing, or excluded by .*'folder/left_out'"):
        builder(tmp_path, "FROM base AS last\nCOPY folder/left_out /x\n").build("last")


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_cpu_image_is_built_from_scratch_and_tracks_a_video(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("chroot needs root on Linux")
    base, output = tmp_path / "base", tmp_path / "output"
    output_of(program("debootstrap"), "--variant=minbase", "bookworm", base)
    scripts = ROOT / "deploy" / "docker"
    build = ["build", f"--context={ROOT}", f"--file={SERVICE}", f"--base=debian:bookworm-slim={base}"]
    # the index of PyTorch's CPU builds may not be reachable; PyPI has the CUDA builds of the same versions
    build += ["--build-arg=DEVICE=cpu", "--build-arg=TORCH_INDEX=https://pypi.org/simple"]
    if certificates := os.environ.get("PIP_CERT"):
        build += [f"--bind={certificates}=/run/mirror.crt", "--env=PIP_CERT=/run/mirror.crt"]
    start = ["start", "--env=RAY_START_OPTIONS=--num-cpus=2", "--"]
    check = [sys.executable, str(scripts / "check_service.py"), "--address=172.30.0.2"]
    output_of(sys.executable, scripts / "run_in_chroot.py", f"--output={output}", *build)
    output_text = output_of(
        sys.executable, scripts / "run_in_chroot.py", f"--output={output}", *start, *check, PYTHONPATH=str(ROOT)
    )
    assert '"status": "done"' in output_text
