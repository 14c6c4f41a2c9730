"""Generates the Serve configuration of each overlay: `serve_config.yaml` plus the settings of its environment file.

KubeRay reads the configuration of Ray Serve as text in a `RayService`. `make kubernetes` runs this script, which writes
it as a patch for each overlay, and a test checks that the patches are up to date. In the same way the alert rules of
Prometheus become an object of its operator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from ray.serve.schema import ServeDeploySchema

from motserve.config import load_config
from motserve.files.yaml_reader import read_yaml
from motserve.serving.arguments import ServeArgs

ROOT: Final = Path(__file__).resolve().parents[2]
OVERLAYS: Final = Path(__file__).resolve().parent / "overlays"
ENVIRONMENTS: Final = ROOT / "configs" / "environments"
RULES: Final = ROOT / "deploy" / "observability" / "prometheus" / "rules" / "motserve.yml"
RULES_OBJECT: Final = Path(__file__).resolve().parent / "components" / "prometheus-rules" / "prometheus-rule.yaml"
IN_IMAGE: Final = "/app"
"""Folder of the checkout in the image."""

_NOTE: Final = """\
# Written by `make kubernetes` from serve_config.yaml and configs/environments/{name}.yaml: change those.
"""
_RULES_NOTE: Final = """\
# Written by `make kubernetes` from deploy/observability/prometheus/rules/motserve.yml: change that.
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the patch of every overlay and the alert rules; with `--check`, only report the outdated files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    check = parser.parse_args(arguments).check
    stale = False
    patches = [(overlay / "serve-config.yaml", patch(overlay.name)) for overlay in overlays()]
    for target, text in [*patches, (RULES_OBJECT, rules())]:
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if not check:
            target.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{target}: {'out of date, run `make kubernetes`' if check else 'written'}\n")
    return int(check and stale)


def overlays() -> list[Path]:
    """Return the folders of the overlays; each is named after its environment."""
    return sorted(path.parent for path in OVERLAYS.glob("*/kustomization.yaml"))


def patch(name: str) -> str:
    """Return the patch of an overlay as YAML.

    Args:
        name: The environment.
    """
    body = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "motserve"},
        "spec": {"serveConfigV2": yaml.dump(serve_config(name), sort_keys=False)},
    }
    return _NOTE.format(name=name) + yaml.dump(body, Dumper=_Readable, sort_keys=False)


def rules() -> str:
    """Return the alert rules as an object of the Prometheus operator, as YAML."""
    body = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "motserve", "labels": {"app.kubernetes.io/part-of": "motserve"}},
        "spec": read_yaml(RULES),
    }
    return _RULES_NOTE + yaml.dump(body, Dumper=_Readable, sort_keys=False)


def serve_config(name: str) -> dict[str, Any]:
    """Return the configuration of Ray Serve for an environment.

    Args:
        name: The environment: the name of a file in `configs/environments`.

    Raises:
        InvalidConfig: A key of the file or of `serve_config.yaml` is unknown, or a value is out of its bounds.
    """
    config: dict[str, Any] = read_yaml(ROOT / "serve_config.yaml")
    file = ENVIRONMENTS / f"{name}.yaml"
    load_config([file])
    # Pods are reached at their own addresses, and every pod with a replica takes requests.
    config["http_options"]["host"] = "0.0.0.0"
    config["proxy_location"] = "EveryNode"
    (application,) = config["applications"]
    args = ServeArgs(**application["args"])
    # Settings override files, so those that the environment file sets are removed.
    settings = _without(args.settings, read_yaml(file))
    files = [*args.config, file.relative_to(ROOT)]
    application["args"] = {"config": [f"{IN_IMAGE}/{path}" for path in files], "settings": settings}
    ServeDeploySchema(**config)
    return config


def _without(tree: Mapping[str, Any], excluded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree without the leaves that another tree has."""
    remaining: dict[str, Any] = {}
    for key, value in tree.items():
        other = excluded.get(key)
        if key not in excluded:
            remaining[key] = value
        elif isinstance(value, Mapping) and isinstance(other, Mapping) and (subtree := _without(value, other)):
            remaining[key] = subtree
    return remaining


class _Readable(yaml.SafeDumper):
    """Writes multi-line strings as YAML block scalars."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Readable.add_representer(str, _text)

if __name__ == "__main__":
    sys.exit(main())
