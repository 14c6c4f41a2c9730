"""The alerts and dashboards in `deploy/observability`, and the metrics that they query."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "deploy" / "observability"
RULES = OBSERVABILITY / "prometheus" / "rules" / "motserve.yml"
DASHBOARDS = sorted((OBSERVABILITY / "grafana" / "dashboards").glob("*.json"))


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [(path.stem, panel) for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]


def expressions() -> list[str]:
    asked = [target["expr"] for _, panel in panels() for target in panel["targets"]]
    queries = [variable["definition"] for path in DASHBOARDS for variable in variables(path)]
    return asked + queries + [rule["expr"] for rule in alerts()]


def variables(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text()).get("templating", {}).get("list", [])
    return found


def asked_for() -> set[str]:
    """Return the names of all metrics in dashboards and alerts."""
    return {name for expression in expressions() for name in re.findall(r"\bray_[a-z0-9_]+", expression)}
