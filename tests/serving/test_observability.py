"""Alerts and dashboards: Prometheus accepts them, and every metric that they query is exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import service_checks
import yaml
from dashboards import DASHBOARDS, OBSERVABILITY, ROOT, RULES, alerts, asked_for, panels, variables
from metric_fakes import put_up
from service_checks import free_port

from motserve.serving.observability.metrics import ModelMetrics, ServiceMetrics, VideoGauges

DOCUMENT = ROOT / "docs" / "observability.md"
PARTS = re.compile(r"_(bucket|sum|count)$")
"""Suffixes of the series that a histogram is exported as."""


def tool(name: str) -> str:
    if found := shutil.which(name):
        return found
    pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")


def checked(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- alerts


def test_prometheus_accepts_the_rules() -> None:
    checked(tool("promtool"), "check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    checked(tool("promtool"), "test", "rules", ROOT / "tests" / "alerts.yml")


def test_each_alert_has_a_case_of_both_kinds() -> None:
    cases = [case for test in yaml.safe_load((ROOT / "tests" / "alerts.yml").read_text())["tests"]
             for case in test["alert_rule_test"]]  # fmt: skip
    for kind in (True, False):
        assert {case["alertname"] for case in cases if bool(case.get("exp_alerts")) == kind} == {
            rule["alert"] for rule in alerts()
        }


def test_each_alert_has_a_severity_and_a_runbook() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").strip().lower()).replace(" ", "-")
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("#")
    }
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert ROOT / file == DOCUMENT
        assert anchor in headings


# ---- dashboards


def test_dashboards_and_their_panels_are_unique() -> None:
    assert [path.stem for path in DASHBOARDS] == ["models", "service", "video"]
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)
    for board in boards:
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
        assert len(places) == len(set(places))
        for panel in board["panels"]:
            refs = [target["refId"] for target in panel["targets"]]
            assert refs
            assert len(refs) == len(set(refs))


def test_dashboards_use_the_provisioned_data_source() -> None:
    provisioned = OBSERVABILITY / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(provisioned.read_text())["datasources"]
    used = [thing["datasource"] for _, panel in panels() for thing in (panel, *panel["targets"])]
    used += [variable["datasource"] for path in DASHBOARDS for variable in variables(path)]
    assert {(one["type"], one["uid"]) for one in used} == {(source["type"], source["uid"])}


def test_the_video_dashboard_queries_only_its_video() -> None:
    path = next(path for path in DASHBOARDS if path.stem == "video")
    (variable,) = variables(path)
    assert variable["name"] == "video_id"
    for name, panel in panels():
        for target in panel["targets"]:
            assert ('{video_id="$video_id"}' in target["expr"]) == (name == "video")


def test_every_queried_metric_of_motserve_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    board = put_up(monkeypatch)
    ModelMetrics("detector", 8)
    ServiceMetrics()
    VideoGauges("v")
    own = {name for name in asked_for() if name.startswith("ray_motserve_")}
    assert own
    for name in own:
        plain = name.removeprefix("ray_")
        if plain not in board.kinds:
            assert board.kinds.get(PARTS.sub("", plain)) == "histogram", f"no process exports {name}"
        assert (board.kinds.get(plain) == "counter") == plain.endswith("_total"), name


def test_every_metric_of_motserve_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    board = put_up(monkeypatch)
    ModelMetrics("detector", 8)
    ServiceMetrics()
    VideoGauges("v")
    text = DOCUMENT.read_text()
    described = set(re.findall(r"`(motserve_[a-z_]+)`", text))
    assert described == set(board.kinds)


# ---- a real Prometheus


@contextmanager
def exporter(text: Callable[[], str]) -> Iterator[int]:
    """Serve metrics over HTTP; the value is the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library calls it by this name
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text().encode())

        def log_message(self, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[httpx.Client]:
    """Run Prometheus with the deployed configuration, but scrape this port every second."""
    binary = tool("prometheus")
    config = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"] = [one for one in config["scrape_configs"] if one["job_name"] == "ray"]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    own = free_port()
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{own}", timeout=10) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


eventually = partial(service_checks.eventually, seconds=60)


def firing(client: httpx.Client) -> list[dict[str, Any]]:
    try:
        answer = client.get("/api/v1/alerts")
    except httpx.TransportError:  # it is starting
        return []
    if answer.status_code != 200:
        return []
    return [alert for alert in answer.json()["data"]["alerts"] if alert["state"] == "firing"]


def test_prometheus_reads_a_service_and_an_alert_fires(tmp_path: Path) -> None:
    tool("prometheus")
    dropped = 0

    def text() -> str:
        return (
            'ray_serve_deployment_status{application="motserve",deployment="Detector"} 6\n'
            'ray_serve_deployment_replica_healthy{application="motserve",deployment="Detector"} 1\n'
            f'ray_motserve_frames_dropped_total{{status="failed"}} {dropped}\n'
            'ray_motserve_frames_dropped_total{status="deleted"} 0\n'
        )

    def read(client: httpx.Client) -> Any:
        try:
            found = client.get("/api/v1/query", params={"query": 'count_over_time(up{job="ray"}[1m]) > 2'})
        except httpx.TransportError:
            return None
        return found.status_code == 200 and found.json()["data"]["result"]

    with exporter(text) as port, prometheus(tmp_path, port) as client:
        eventually(lambda: read(client), "that Prometheus reads the exporter")
        groups = client.get("/api/v1/rules").json()["data"]["groups"]
        assert {rule["name"] for group in groups for rule in group["rules"]} == {rule["alert"] for rule in alerts()}
        assert firing(client) == []
        dropped = 12
        (alert,) = eventually(lambda: firing(client), "an alert")
        assert alert["labels"] == {"alertname": "MotserveFramesDropped", "severity": "warning", "status": "failed"}
        assert alert["annotations"]["description"] == "Their videos ended first, with status failed."
        eventually(lambda: healthy(client), "that all rules can be evaluated")


def healthy(client: httpx.Client) -> bool:
    groups = client.get("/api/v1/rules").json()["data"]["groups"]
    return all(rule["health"] == "ok" for group in groups for rule in group["rules"])
