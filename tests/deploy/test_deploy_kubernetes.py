from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import mlflow
import pytest
import ray
import yaml
from programs import output_of, program
from ray.serve.schema import ServeDeploySchema
from service_checks import service_without_cluster
from starlette.routing import Route

from motserve.config import Config, load_config, parse_overrides
from motserve.config.loading.yaml_files import layer_settings
from motserve.errors import InvalidConfig
from motserve.serving.api import build_http
from motserve.serving.app import build
from motserve.serving.arguments import ServeArgs
from training.detector.config import DetectorTraining
from training.reid.config import ReidTrainingConfig

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
ENVIRONMENTS = sorted(path.stem for path in (ROOT / "configs" / "environments").glob("*.yaml"))
OVERLAYS = sorted(path.parent.name for path in (KUBERNETES / "overlays").glob("*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in (KUBERNETES / "components").glob("*/kustomization.yaml"))
JOBS = sorted(
    str(path.parent.relative_to(KUBERNETES)) for path in (KUBERNETES / "overlays").glob("*/train-*/kustomization.yaml")
)
BUILDS = [*(f"overlays/{name}" for name in OVERLAYS), *JOBS]
TRAININGS: dict[str, type[DetectorTraining | ReidTrainingConfig]] = {
    "training.detector": DetectorTraining,
    "training.reid": ReidTrainingConfig,
}

KUBERNETES_VERSION = "1.32"
USER = 10001
"""User ID of the image; numeric, because Kubernetes cannot verify from a name that it is not root."""

Object = dict[str, Any]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MOTSERVE_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", KUBERNETES / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kustomize(folder: Path) -> list[Object]:
    built = output_of(program("kubectl"), "kustomize", folder)
    return [one for one in yaml.safe_load_all(built) if one]


@pytest.fixture(scope="module")
def built() -> dict[str, list[Object]]:
    return {name: kustomize(KUBERNETES / name) for name in BUILDS}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """The objects of `prod` with every component that is commented out in its files."""
    copy = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    for file in (copy / "overlays" / "prod").rglob("kustomization.yaml"):
        lines = file.read_text().splitlines()
        file.write_text("\n".join(re.sub(r"^(\s*)# (components:|  - \.\./|- \.\./)", r"\1\2", x) for x in lines) + "\n")
    return {name: kustomize(copy / name) for name in BUILDS if "/prod" in name}


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def the_only(objects: list[Object], kind: str) -> Object:
    (one,) = of_kind(objects, kind)
    return one


def clusters(objects: list[Object]) -> Iterator[Object]:
    for one in of_kind(objects, "RayService"):
        yield one["spec"]["rayClusterConfig"]
    for one in of_kind(objects, "RayJob"):
        yield one["spec"]["rayClusterSpec"]


def groups(cluster: Object) -> list[Object]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the pod templates with names for messages, and with the labels that KubeRay adds."""
    for one in of_kind(objects, "Deployment", "StatefulSet"):
        yield one["metadata"]["name"], one["spec"]["template"]
    for one in of_kind(objects, "RayJob"):
        yield "submitter", one["spec"]["submitterPodTemplate"]
    for cluster in clusters(objects):
        for group in groups(cluster):
            name = group.get("groupName", "headgroup")
            kind = "worker" if "groupName" in group else "head"
            added = {"ray.io/group": name, "ray.io/node-type": kind, "ray.io/is-ray-node": "yes"}
            template = json.loads(json.dumps(group["template"]))
            template["metadata"]["labels"] |= added
            yield name, template


def containers(template: Object) -> list[Object]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def walk(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for below in value.values():
            yield from walk(below)
    elif isinstance(value, list):
        for below in value:
            yield from walk(below)


def in_checkout(path: str | Path) -> Path:
    return ROOT / Path(path).relative_to("/app")


def serve_config_of(objects: list[Object]) -> tuple[Object, Config]:
    config = yaml.safe_load(the_only(objects, "RayService")["spec"]["serveConfigV2"])
    args = ServeArgs(**config["applications"][0]["args"])
    return config, load_config([*map(in_checkout, args.config), args.settings])


def quantity(text: str | int) -> Fraction:
    number, unit = re.fullmatch(r"(\d+(?:\.\d+)?)(m|Ki|Mi|Gi|Ti)?", str(text)).groups()  # type: ignore[union-attr]
    scales: dict[str | None, Fraction | int] = {
        "m": Fraction(1, 1000), "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, None: 1,
    }  # fmt: skip
    return Fraction(number) * scales[unit]


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return wanted.items() <= labels.items() and all(labels.get(e["key"]) in e["values"] for e in expressions)


# --- the Serve configuration ------------------------------------------------------------------------------------------


def test_there_is_an_overlay_for_every_environment() -> None:
    assert OVERLAYS == ENVIRONMENTS == ["dev", "prod"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_generated_serve_configs_are_up_to_date(render: ModuleType, name: str) -> None:
    committed = (KUBERNETES / "overlays" / name / "serve-config.yaml").read_text()
    assert committed == render.patch(name), (
        "serve_config.yaml or configs/environments changed: run `make kubernetes` and commit what it writes"
    )


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_generated_serve_config_differs_only_by_its_environment(render: ModuleType, name: str) -> None:
    local = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    there = render.serve_config(name)
    (ours,), (theirs,) = local.pop("applications"), there.pop("applications")
    settings = ServeArgs(**ours.pop("args")).settings
    args = ServeArgs(**theirs.pop("args"))
    environment = ROOT / "configs" / "environments" / f"{name}.yaml"
    assert load_config([*map(in_checkout, args.config), args.settings]) == load_config([settings, environment])
    assert ours == theirs
    assert there == local | {"proxy_location": "EveryNode", "http_options": {"host": "0.0.0.0", "port": 8000}}


def test_an_outdated_file_is_named_and_written_again(
    render: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "prod"
    overlay.mkdir()
    (overlay / "kustomization.yaml").touch()
    monkeypatch.setattr(render, "OVERLAYS", tmp_path)
    (overlay / "serve-config.yaml").write_text("old")
    assert render.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().out
    assert (overlay / "serve-config.yaml").read_text() == "old"
    assert render.main([]) == 0
    assert render.main(["--check"]) == 0


@pytest.mark.parametrize("name", OVERLAYS)
def test_ray_serve_and_the_application_accept_the_generated_configuration(
    built: dict[str, list[Object]], name: str
) -> None:
    config, settings = serve_config_of(built[f"overlays/{name}"])
    ServeDeploySchema(**config)
    args = ServeArgs(**config["applications"][0]["args"])
    build(args.model_copy(update={"config": [in_checkout(path) for path in args.config]}))
    assert settings.serving.accelerator != "auto", "a cluster has no GPU node when it starts"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_loads(name: str) -> None:
    config = load_config([ROOT / "configs" / "environments" / f"{name}.yaml"])
    assert config.mlflow.artifact_dir is None
    assert config.serving.storage_dir.is_absolute()


def test_service_variables_of_kubernetes_are_refused_as_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for `enableServiceLinks: false`: Kubernetes would set this variable for KubeRay's service."""
    monkeypatch.setenv("MOTSERVE_SERVE_SVC_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(InvalidConfig, match="MOTSERVE_SERVE_SVC_SERVICE_HOST"):
        load_config()


# --- built objects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(KUBERNETES.rglob("*.yaml")), ids=lambda p: str(p.relative_to(KUBERNETES)))
def test_every_file_is_valid_yaml(path: Path) -> None:
    assert all(isinstance(one, dict) for one in yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("name", BUILDS)
def test_everything_is_in_the_namespace_of_the_overlay(built: dict[str, list[Object]], name: str) -> None:
    namespaces = {one["metadata"].get("namespace") for one in built[name] if one["kind"] != "Namespace"}
    assert len(namespaces) == 1
    made = {one["metadata"]["name"] for one in of_kind(built[name], "Namespace")}
    assert made <= namespaces
    assert None not in namespaces


@pytest.mark.parametrize("name", BUILDS)
def test_images_have_the_version_of_the_project_or_a_fixed_one(built: dict[str, list[Object]], name: str) -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for pod, template in templates(built[name]):
        for container in containers(template):
            image, _, tag = container["image"].rpartition(":")
            assert image, f"{pod}: {container['image']} has no tag"
            assert tag != "latest"
            if image.rpartition("/")[2] in ("motserve", "motserve-mlflow"):
                assert tag == version, f"{pod}: change newTag in overlays/*/settings"


def test_ray_and_mlflow_have_the_versions_of_the_image(
    built: dict[str, list[Object]], everything: dict[str, list[Object]]
) -> None:
    for objects in built.values():
        for cluster in clusters(objects):
            assert cluster["rayVersion"] == ray.__version__
    published = [
        container["image"].rpartition(":")[2]
        for _, template in templates(everything["overlays/prod"])
        for container in containers(template)
        if "ghcr.io/mlflow/mlflow" in container["image"]
    ]
    assert published == [f"v{mlflow.__version__}-full"]


@pytest.mark.parametrize("name", BUILDS)
def test_no_pod_has_unneeded_privileges(built: dict[str, list[Object]], name: str) -> None:
    for pod, template in templates(built[name]):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, pod
        assert spec["securityContext"]["runAsUser"] == (999 if pod == "postgresql" else USER), pod
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        assert spec["enableServiceLinks"] is False, f"{pod}: see test_addresses_of_services_…"
        if spec["serviceAccountName"] != "motserve-head":
            assert spec["automountServiceAccountToken"] is False, pod
        for container in containers(template):
            assert_locked(container, pod)
    for cluster in clusters(built[name]):
        assert_locked(cluster["autoscalerOptions"], "autoscaler")


def assert_locked(container: Object, pod: str) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False, pod
    assert context["readOnlyRootFilesystem"] is True, pod
    assert context["capabilities"] == {"drop": ["ALL"]}, pod
    for side in ("requests", "limits"):
        assert {"cpu", "memory"} <= set(container["resources"][side]), pod
    for resource, least in container["resources"]["requests"].items():
        assert quantity(least) <= quantity(container["resources"]["limits"][resource]), pod


@pytest.mark.parametrize("name", BUILDS)
def test_every_mount_has_a_volume_and_every_volume_a_claim(built: dict[str, list[Object]], name: str) -> None:
    # jobs use claims that the service's overlay makes
    made = {one["metadata"]["name"] for one in of_kind(built[service_of(name)], "PersistentVolumeClaim")}
    for pod, template in templates(built[name]):
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for container in containers(template):
            names = [mount["name"] for mount in container["volumeMounts"] if mount["name"] != "database"]
            assert set(names) <= set(volumes), pod
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in made, pod


def service_of(name: str) -> str:
    return "/".join(name.split("/")[:2])


@pytest.mark.parametrize("name", BUILDS)
def test_variables_of_image_and_pods_are_valid_settings(
    built: dict[str, list[Object]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, template in templates(built[name]):
        for container in containers(template):
            if "/motserve:" in f"/{container['image']}":
                set_variables(container, built[service_of(name)], monkeypatch)
                load_config()


def set_variables(container: Object, objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables of a container of our image: those of the image, then those of the pod."""
    recipe = (ROOT / "Dockerfile").read_text()
    for variable, value in re.findall(r"\b(MOTSERVE_\w+)=(\S+)", recipe):
        monkeypatch.setenv(variable, value)
    secrets = {one["metadata"]["name"]: one["stringData"] for one in of_kind(objects, "Secret")}
    for one in container.get("env", []):
        if not one["name"].startswith("MOTSERVE_"):
            continue
        secret = one.get("valueFrom", {}).get("secretKeyRef")
        if secret is None:
            monkeypatch.setenv(one["name"], one["value"])
        elif secret["name"] in secrets:
            monkeypatch.setenv(one["name"], secrets[secret["name"]][secret["key"]])
        else:
            assert secret["optional"], one["name"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_workers_mount_the_folders_of_the_configuration(
    built: dict[str, list[Object]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster,) = clusters(built[f"overlays/{name}"])
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    for group in cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["env"] == head["env"], "the configuration is read on whichever pod builds the application"
        set_variables(container, built[f"overlays/{name}"], monkeypatch)
        _, config = serve_config_of(built[f"overlays/{name}"])
        mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
        for folder in (config.serving.storage_dir, config.models_dir, config.cache_dir):
            assert any(folder.is_relative_to(mount) for mount in mounts), (group["groupName"], folder)


def test_volumes_shared_between_nodes_are_read_write_many(built: dict[str, list[Object]]) -> None:
    for one in of_kind(built["overlays/prod"], "PersistentVolumeClaim"):
        shared = one["metadata"]["name"] != "motserve-mlflow"
        assert one["spec"]["accessModes"] == (["ReadWriteMany"] if shared else ["ReadWriteOnce"])


def test_referenced_secrets_are_in_the_example(
    built: dict[str, list[Object]], everything: dict[str, list[Object]]
) -> None:
    file = KUBERNETES / "secrets-example" / "secrets.yaml"
    examples = {one["metadata"]["name"]: set(one["stringData"]) for one in yaml.safe_load_all(file.read_text())}
    asked: set[str] = set()
    for objects in [*built.values(), *everything.values()]:
        for part in walk(objects):
            if reference := part.get("secretKeyRef"):
                assert reference["key"] in examples[reference["name"]]
                asked.add(reference["name"])
            if reference := part.get("secretRef"):
                asked.add(reference["name"])
    assert asked == set(examples)


def test_example_secrets_have_only_placeholders() -> None:
    for path in KUBERNETES.rglob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            if one.get("kind") == "Secret":
                assert set(one["stringData"].values()) == {"change-me"}, path
    prod = "\n".join(path.read_text() for path in (KUBERNETES / "overlays" / "prod").rglob("*.yaml"))
    assert "secrets-example" not in prod


def test_accounts_of_pods_exist(built: dict[str, list[Object]]) -> None:
    for name in BUILDS:
        accounts = {one["metadata"]["name"] for one in of_kind(built[service_of(name)], "ServiceAccount")}
        assert {template["spec"]["serviceAccountName"] for _, template in templates(built[name])} <= accounts


# --- ports and network policies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVERLAYS)
def test_ports_agree(built: dict[str, list[Object]], name: str) -> None:
    objects = built[f"overlays/{name}"]
    config, settings = serve_config_of(objects)
    port = config["http_options"]["port"]
    (cluster,) = clusters(objects)
    for group in groups(cluster):
        (container,) = group["template"]["spec"]["containers"]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert ports["serve"] == port
        assert ports["metrics"] == 8080
        for probe in ("livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in (52365, port)
    for rule in the_only(objects, "Ingress")["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"] == {"name": "motserve-serve-svc", "port": {"number": port}}
    service = next(one for one in of_kind(objects, "Service") if one["metadata"]["name"] == "mlflow")
    assert settings.mlflow.tracking_uri == f"http://mlflow:{service['spec']['ports'][0]['port']}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_services_select_their_pods(built: dict[str, list[Object]], name: str) -> None:
    pods = list(templates(built[f"overlays/{name}"]))
    for service in of_kind(built[f"overlays/{name}"], "Service"):
        found = [one for _, one in pods if selects({"matchLabels": service["spec"]["selector"]}, labels_of(one))]
        assert len(found) == 1, service["metadata"]["name"]
        names = {port["name"] for port in found[0]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def labels_of(template: Object) -> Mapping[str, str]:
    return cast(Mapping[str, str], template["metadata"]["labels"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_selectors_match_labels(built: dict[str, list[Object]], name: str) -> None:
    objects = [one for build in BUILDS if service_of(build) == f"overlays/{name}" for one in built[build]]
    labels = [labels_of(template) for _, template in templates(objects)]
    for one in of_kind(objects, "PodDisruptionBudget"):
        matched = [each for each in labels if selects(one["spec"]["selector"], each)]
        assert len(matched) == 1, one["metadata"]["name"]
    for one in of_kind(objects, "Deployment", "StatefulSet"):
        assert selects(one["spec"]["selector"], labels_of(one["spec"]["template"]))
    for policy in of_kind(objects, "NetworkPolicy"):
        assert any(selects(policy["spec"]["podSelector"], each) for each in labels), policy["metadata"]["name"]
        for part in walk(policy["spec"]):
            selector = part.get("podSelector")
            if selector and "namespaceSelector" not in part:
                assert any(selects(selector, each) for each in labels), policy["metadata"]["name"]


@pytest.mark.parametrize("name", BUILDS)
def test_connections_of_every_pod_are_denied_by_default(built: dict[str, list[Object]], name: str) -> None:
    policies = of_kind(built[service_of(name)], "NetworkPolicy")
    default_deny = next(one["spec"] for one in policies if one["metadata"]["name"] == "default-deny")
    assert default_deny["policyTypes"] == ["Ingress", "Egress"]
    assert not default_deny.get("ingress")
    assert not default_deny.get("egress")
    for pod, template in templates(built[name]):
        assert selects(default_deny["podSelector"], labels_of(template)), pod


def test_only_the_operator_and_ray_itself_reach_the_dashboard_and_the_control_plane(
    built: dict[str, list[Object]],
) -> None:
    """Every client of them can run arbitrary code."""
    for policy in of_kind(built["overlays/prod"], "NetworkPolicy"):
        if policy["metadata"]["name"] not in ("serve", "training"):
            continue
        component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in policy["spec"]["ingress"]:
            ports = {port["port"] for port in rule.get("ports", [])}
            itself = [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": component}}}]
            others = rule["from"][0].get("namespaceSelector", {}).get("matchLabels")
            operator = others == {"motserve/access": "operator"}
            assert rule["from"] == itself or operator or ports in ({8000}, {8080})


def test_the_ingress_exposes_every_route_but_those_of_operators(
    built: dict[str, list[Object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(route: str) -> bool:
        return any(
            route == path["path"] or (path["pathType"] == "Prefix" and route.startswith(f"{path['path']}/"))
            for rule in the_only(built["overlays/prod"], "Ingress")["spec"]["rules"]
            for path in rule["http"]["paths"]
        )

    app = build_http(service_without_cluster(tmp_path, monkeypatch))
    documentation = {route.path for route in app.routes if isinstance(route, Route)}
    routes = {*documentation, *app.openapi()["paths"]}
    assert "/docs" in routes
    hidden = {route for route in routes if not reached(route)}
    assert hidden == {"/v1/admin/models", "/v1/admin/reload", "/readyz"}
    assert not reached("/-/routes")
    assert not reached("/")


# --- Ray --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDS)
def test_the_autoscaler_of_ray_reads_the_cluster(built: dict[str, list[Object]], name: str) -> None:
    """Ray's own autoscaler code parses the object into node groups."""
    autoscaling = pytest.importorskip("ray.autoscaler._private.kuberay.autoscaling_config")
    for cluster in clusters(built[name]):
        body = {"metadata": {"name": "cluster", "namespace": "namespace"}, "spec": cluster}
        config = autoscaling._derive_autoscaling_config_from_ray_cr(body)
        kinds = config["available_node_types"]
        assert kinds["headgroup"]["resources"]["CPU"] == 0, "nothing is placed on the head"
        assert set(kinds) == {"headgroup", *(group["groupName"] for group in cluster["workerGroupSpecs"])}
        for group in cluster["workerGroupSpecs"]:
            kind = kinds[group["groupName"]]
            assert kind["min_workers"] <= group["replicas"] <= kind["max_workers"]
            assert kind["resources"].get("GPU", 0) == (1 if group["groupName"] == "gpu" else 0)
            assert kind["resources"]["CPU"] >= 1
        assert config["idle_timeout_minutes"] >= 5


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_largest_cluster_has_capacity_for_all_replicas_and_sessions(
    built: dict[str, list[Object]], name: str
) -> None:
    _, config = serve_config_of(built[f"overlays/{name}"])
    (cluster,) = clusters(built[f"overlays/{name}"])
    serving, gpu = config.serving, config.serving.accelerator == "gpu"
    networks = (serving.detector, serving.embedder)
    room = {group["groupName"]: (group["maxReplicas"], limits_of(group)) for group in cluster["workerGroupSpecs"]}
    count, limits = room["cpu"]
    cpus = quantity(limits["cpu"]) * count
    wanted = serving.max_active_videos * Fraction(str(serving.session.cpus))
    wanted += serving.ingress.autoscaling.max_replicas * Fraction(str(serving.ingress.cpus))
    wanted += Fraction(str(serving.metrics.cpus))
    models = [(each.autoscaling.max_replicas, Fraction(str(each.cpus)), Fraction(str(each.gpus))) for each in networks]
    if gpu:
        count, limits = room["gpu"]
        assert sum(n * share for n, _, share in models) <= count * quantity(limits["nvidia.com/gpu"])
        # each replica takes half a GPU, so a pod has two replicas per GPU
        shares = max(int(quantity(limits["nvidia.com/gpu"]) / share) for _, _, share in models)
        assert shares * max(each for _, each, _ in models) <= quantity(limits["cpu"])
    else:
        wanted += sum(n * each for n, each, _ in models)
    assert wanted <= cpus


def limits_of(group: Object) -> Mapping[str, str]:
    return cast(Mapping[str, str], group["template"]["spec"]["containers"][0]["resources"]["limits"])


@pytest.mark.parametrize("name", JOBS)
def test_jobs_have_valid_settings_that_fit_their_workers(
    built: dict[str, list[Object]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = the_only(built[name], "RayJob")["spec"]
    python, module, *arguments = shlex.split(job["entrypoint"].replace("python -m ", "python ", 1))
    assert python == "python"
    assert (ROOT / module.replace(".", "/") / "__main__.py").is_file()
    # KubeRay passes the text to a shell
    assert not set("&|;<>$`'\"") & set(job["entrypoint"])
    options: dict[str, list[str]] = {}
    for word in arguments:
        if word.startswith("--"):
            options[word] = []
        else:
            options[list(options)[-1]].append(word)
    assert set(options) == {"--config", "--name", "--set"}
    changes = parse_overrides([*options["--set"], f"name={options['--name'][0]}"])
    settings = layer_settings([in_checkout(path) for path in options["--config"]], changes, TRAININGS[module])
    assert settings.mlflow.tracking_uri == "http://mlflow:5000"
    assert settings.mlflow.artifact_dir is None
    for group in groups(job["rayClusterSpec"]):
        (container,) = group["template"]["spec"]["containers"]
        mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
        assert any(Path(settings.compute.storage).is_relative_to(mount) for mount in mounts)
        assert {"name": "PYTHONPATH", "value": "/app"} in container["env"]
        set_variables(container, built[service_of(name)], monkeypatch)
        assert any(load_config().cache_dir.is_relative_to(mount) for mount in mounts)
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    limits, compute = limits_of(group), settings.compute
    assert settings.compute.workers
    fit = quantity(limits["cpu"]) // Fraction(str(compute.cpus_per_worker))
    if compute.gpus_per_worker:
        fit = min(fit, quantity(limits["nvidia.com/gpu"]) // Fraction(str(compute.gpus_per_worker)))
    assert compute.workers <= fit * group["maxReplicas"]


def test_the_image_has_the_programs_and_files_that_the_objects_use() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^WORKDIR /app$", recipe, re.MULTILINE)
    (user,) = re.findall(r"^USER (\S+)", recipe, re.MULTILINE)
    assert user in ("motserve", str(USER)), "the pods run as another user than the image"
    assert re.search(r"useradd .*--create-home .*motserve", recipe), "pods mount /home/motserve"
    for folder in ("configs", "training"):
        assert re.search(rf"^COPY (--\S+ )*{folder}\b", recipe, re.MULTILINE), folder
        assert folder not in (ROOT / ".dockerignore").read_text().split(), f"{folder} does not reach the image"


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*BUILDS, "everything"])
def test_kubernetes_objects_match_their_schemas(
    built: dict[str, list[Object]], everything: dict[str, list[Object]], name: str
) -> None:
    """By the schemas of `kubernetes-validate`, unknown fields are errors."""
    validator = pytest.importorskip("kubernetes_validate")
    objects = [one for each in everything.values() for one in each] if name == "everything" else built[name]
    checked = [*objects_of_kubernetes(objects), *parts_of_ray(objects)]
    for one in checked:
        validator.validate(one, KUBERNETES_VERSION, strict=True)
    assert checked


def objects_of_kubernetes(objects: list[Object]) -> list[Object]:
    ours = ("ray.io/v1", "monitoring.coreos.com/v1")
    return [one for one in objects if one["apiVersion"] not in ours]


def parts_of_ray(objects: list[Object]) -> Iterator[Object]:
    """Yield the Kubernetes parts of KubeRay objects, each wrapped in a Kubernetes object of a fitting kind."""
    for name, template in templates(objects):
        yield {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
    for cluster in clusters(objects):
        options = cluster["autoscalerOptions"]
        container = {key: options[key] for key in ("resources", "securityContext", "imagePullPolicy")}
        pod = {"containers": [{"name": "autoscaler", "image": "motserve:0", **container}]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "autoscaler"}, "spec": pod}


KUBERAY: Mapping[str, set[str]] = {
    "RayService": {
        "excludeHeadPodFromServeSvc",
        "rayClusterConfig",
        "rayClusterDeletionDelaySeconds",
        "serveConfigV2",
        "serveService",
        "upgradeStrategy",
    },
    "RayJob": {
        "activeDeadlineSeconds",
        "backoffLimit",
        "clusterSelector",
        "deletionStrategy",
        "entrypoint",
        "entrypointNumCpus",
        "entrypointNumGpus",
        "entrypointResources",
        "jobId",
        "managedBy",
        "metadata",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "submitterConfig",
        "submitterPodTemplate",
        "suspend",
        "ttlSecondsAfterFinished",
    },
    "cluster": {
        "authOptions",
        "autoscalerOptions",
        "enableInTreeAutoscaling",
        "gcsFaultToleranceOptions",
        "headGroupSpec",
        "headServiceAnnotations",
        "managedBy",
        "rayVersion",
        "suspend",
        "workerGroupSpecs",
    },
    "head": {
        "enableIngress",
        "headService",
        "labels",
        "rayStartParams",
        "resources",
        "serviceType",
        "template",
    },
    "worker": {
        "groupName",
        "idleTimeoutSeconds",
        "labels",
        "maxReplicas",
        "minReplicas",
        "numOfHosts",
        "rayStartParams",
        "replicas",
        "resources",
        "scaleStrategy",
        "suspend",
        "template",
    },
    "autoscalerOptions": {
        "env",
        "envFrom",
        "idleTimeoutSeconds",
        "image",
        "imagePullPolicy",
        "resources",
        "securityContext",
        "upscalingMode",
        "version",
        "volumeMounts",
    },
    "authOptions": {"mode"},
    "upgradeStrategy": {"type"},
    "gcsFaultToleranceOptions": {"externalStorageNamespace", "redisAddress", "redisPassword", "redisUsername"},
}
"""Fields of `ray.io/v1` in KubeRay 1.5, from its API reference; no package has its schemas."""


@pytest.mark.parametrize("name", [*BUILDS, "everything"])
def test_kuberay_objects_have_no_unknown_fields(
    built: dict[str, list[Object]], everything: dict[str, list[Object]], name: str
) -> None:
    objects = [one for each in everything.values() for one in each] if name == "everything" else built[name]
    for one in of_kind(objects, "RayService", "RayJob"):
        assert one["apiVersion"] == "ray.io/v1"
        assert set(one["spec"]) <= KUBERAY[one["kind"]]
        assert set(one["spec"].get("upgradeStrategy", {})) <= KUBERAY["upgradeStrategy"]
        assert one["spec"].get("upgradeStrategy", {}).get("type") in (None, "NewCluster", "None")
    for cluster in clusters(objects):
        assert set(cluster) <= KUBERAY["cluster"]
        for option in ("autoscalerOptions", "authOptions", "gcsFaultToleranceOptions"):
            assert set(cluster.get(option, {})) <= KUBERAY[option]
        assert set(cluster["headGroupSpec"]) <= KUBERAY["head"]
        for group in groups(cluster):
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for group in cluster["workerGroupSpecs"]:
            assert set(group) <= KUBERAY["worker"]
        assert cluster["autoscalerOptions"]["version"] in ("v1", "v2")
        assert cluster["autoscalerOptions"]["upscalingMode"] in ("Default", "Aggressive", "Conservative")


@pytest.mark.parametrize("name", [*BUILDS, "everything"])
def test_custom_objects_match_the_published_definitions(
    built: dict[str, list[Object]], everything: dict[str, list[Object]], name: str
) -> None:
    """With the files of `config/crd/bases` of KubeRay, and of the Prometheus operator, in a folder."""
    folder = os.environ.get("CRD_FOLDER")
    if not folder:
        pytest.skip("CRD_FOLDER names no folder with the CustomResourceDefinitions of KubeRay")
    definitions = [
        one
        for path in sorted(Path(folder).rglob("*.yaml"))
        for one in yaml.safe_load_all(path.read_text())
        if one and one["kind"] == "CustomResourceDefinition"
    ]
    objects = [one for each in everything.values() for one in each] if name == "everything" else built[name]
    for one in objects:
        for definition in definitions:
            if definition["spec"]["names"]["kind"] == one["kind"]:
                assert problems(one, definition) == []


def problems(one: Object, definition: Object) -> list[str]:
    """Return the violations of a CustomResourceDefinition by an object, unknown fields included."""
    jsonschema = pytest.importorskip("jsonschema")
    group, _, version = one["apiVersion"].partition("/")
    assert definition["spec"]["group"] == group
    (schema,) = (
        each["schema"]["openAPIV3Schema"] for each in definition["spec"]["versions"] if each["name"] == version
    )
    found = [f"{error.json_path}: {error.message}" for error in jsonschema.Draft4Validator(schema).iter_errors(one)]
    return [*found, *unknown_fields(one, schema, one["kind"])]


def unknown_fields(value: object, schema: Object, place: str) -> Iterator[str]:
    if isinstance(value, Mapping) and "properties" in schema:
        for key, below in value.items():
            if key in schema["properties"]:
                inner = schema["properties"][key]
                if place.count(".") or key != "metadata":
                    yield from unknown_fields(below, inner, f"{place}.{key}")
            elif not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{place}.{key} is not known"
    elif isinstance(value, Mapping) and isinstance(schema.get("additionalProperties"), Mapping):
        for key, below in value.items():
            yield from unknown_fields(below, schema["additionalProperties"], f"{place}.{key}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from unknown_fields(below, schema.get("items", {}), f"{place}[{index}]")


def test_a_misspelt_field_of_a_custom_object_is_found() -> None:
    schema = {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "required": ["count"],
                "properties": {"count": {"type": "integer"}, "labels": {"additionalProperties": {"type": "string"}}},
            },
        },
    }
    version = {"name": "v1", "schema": {"openAPIV3Schema": schema}}
    definition = {"spec": {"group": "ray.io", "names": {"kind": "RayThing"}, "versions": [version]}}
    thing: Object = {"apiVersion": "ray.io/v1", "kind": "RayThing", "metadata": {"name": "a"}}
    assert problems(thing | {"spec": {"count": 1, "labels": {"a": "b"}}}, definition) == []
    assert problems(thing | {"spec": {"count": 1, "lables": {}}}, definition) == ["RayThing.spec.lables is not known"]
    assert len(problems(thing | {"spec": {"count": "1"}}, definition)) == 1
    assert len(problems(thing | {"spec": {}}, definition)) == 1


# --- components -------------------------------------------------------------------------------------------------------


def test_every_component_is_listed_in_prod_and_has_its_effect(everything: dict[str, list[Object]]) -> None:
    assert COMPONENTS == ["gcs-fault-tolerance", "one-node", "pod-monitor", "prometheus-rules", "s3"]
    objects = everything["overlays/prod"]
    (cluster,) = clusters(objects)
    assert cluster["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "motserve-redis"
    for group in cluster["workerGroupSpecs"]:
        (term,) = group["template"]["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        # the pods match their own affinity; otherwise the first one would never be scheduled
        assert selects(term["labelSelector"], group["template"]["metadata"]["labels"] | {"ray.io/node-type": "worker"})
    (mlflow,) = the_only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert [one for one in mlflow["args"] if one.startswith("--artifacts")] == ["--artifacts-destination=$(ARTIFACTS)"]
    assert len(mlflow["args"]) == 5
    alerts = the_only(objects, "PrometheusRule")
    prometheus = yaml.safe_load((ROOT / "deploy/observability/prometheus/rules/motserve.yml").read_text())
    assert alerts["metadata"]["namespace"] == "motserve"
    assert alerts["spec"] == prometheus
    monitor = the_only(objects, "PodMonitor")
    assert monitor["metadata"]["namespace"] == "motserve"
    ray = [template for name, template in templates(objects) if name in ("headgroup", "cpu", "gpu")]
    assert len(ray) == 3
    for template in ray:
        assert selects(monitor["spec"]["selector"], labels_of(template))
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= ports
    for name in ("train-detector", "train-reid"):
        (training,) = clusters(everything[f"overlays/prod/{name}"])
        for group in groups(training):
            (container,) = group["template"]["spec"]["containers"]
            assert {"secretRef": {"name": "motserve-s3"}} in container["envFrom"]
