from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from motserve.config import MlflowConfig, load_config
from motserve.errors import InvalidConfig, MotserveError
from motserve.lab.evaluation import RATIO_NAMES, MotScores
from motserve.lab.experiments.record import Run, find_runs, log_run, percent
from motserve.models.provenance import stamp

Log = Callable[..., str]
PROVENANCE = stamp(
    load_config([{"tracker": {"high_confidence": 0.65}}]), weights={"reid": None}, notes={"held_out": []}
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store; creating one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "new" / "mlflow.db"
    log_run(MlflowConfig(tracking_uri=f"sqlite:///{path}", artifact_dir=None), "first", {}, PROVENANCE)
    return path


@pytest.fixture
def store(database: Path, tmp_path: Path, request: pytest.FixtureRequest) -> MlflowConfig:
    """A store with an experiment for each test."""
    return MlflowConfig(
        tracking_uri=f"sqlite:///{database}", artifact_dir=str(tmp_path / "artifacts"), experiment=request.node.name
    )


def runs_of(store: MlflowConfig, query: str = "", *order: str, most: int = 100) -> list[Run]:
    return find_runs(store, query, order, most)


def with_notes(**notes: Any) -> dict[str, Any]:
    return {**PROVENANCE, **notes}


def status_of(store: MlflowConfig) -> list[tuple[str, str]]:
    """Return name and status of each run, finished or not."""
    from mlflow import MlflowClient

    client = MlflowClient(store.tracking_uri)
    experiment = client.get_experiment_by_name(store.experiment)
    return [(run.info.run_name, run.info.status) for run in client.search_runs([experiment.experiment_id])]


# --- round trips ------------------------------------------------------------------------------------------------------


def test_a_run_has_all_that_was_logged(store: MlflowConfig, tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("| a |")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plot.png").write_bytes(b"png")
    (tmp_path / "out" / "holiday.png").write_bytes(b"another file")
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    run_id = log_run(
        store,
        "trackers",
        {"MOTA": 71.5, "IDSW": 3, "MOT17-09/HOTA": 60.25},
        PROVENANCE,
        [tmp_path / "table.md", tmp_path / "out" / "plot.png"],
        "ours",
    )
    (run,) = runs_of(store)
    assert (run.id, run.name, run.kind) == (run_id, f"ours {PROVENANCE['date']}", "trackers")
    assert before <= run.started <= datetime.now(timezone.utc) + timedelta(seconds=1)
    assert run.metrics == {"MOTA": 71.5, "IDSW": 3, "MOT17-09/HOTA": 60.25}
    assert (run.tags["kind"], run.tags["candidate"], run.tags["held_out"]) == ("trackers", "ours", "[]")
    assert run.tags["motserve.version"] == PROVENANCE["motserve"]["version"]
    assert run.tags["libraries.numpy"] == PROVENANCE["libraries"]["numpy"]
    assert not any(name.startswith(("config", "mlflow.")) for name in run.tags)
    assert "weights.reid" not in run.tags
    assert status_of(store) == [(run.name, "FINISHED")]
    artifacts = tmp_path / "artifacts" / run_id / "artifacts"
    assert sorted(path.name for path in artifacts.iterdir()) == ["plot.png", "table.md"]


def test_the_configuration_becomes_parameters(store: MlflowConfig) -> None:
    run_id = log_run(store, "mot", {}, PROVENANCE)
    assert [run.id for run in runs_of(store, "params.`tracker.high_confidence` = '0.65'")] == [run_id]
    assert runs_of(store, "params.`tracker.high_confidence` = '0.6'") == []
    assert [run.id for run in runs_of(store, "params.`tuning.space.tracker.match_distance.low` = '0.6'")] == [run_id]
    assert [run.id for run in runs_of(store, "params.`detector.classes` = \"['person']\"")] == [run_id]


def test_ratios_are_queried_in_per_cent(store: MlflowConfig) -> None:
    for mota in (0.65, 0.7, 0.71, 0.999):
        scores = MotScores(0.5, 0.5, 0.5, 0.5, mota, 0.5, 0.5, 0.5, 0.5, 70, 71, 72, 73, 74, 75)
        log_run(store, "mot", percent(scores.as_dict(), RATIO_NAMES), PROVENANCE)
    assert [run.metrics["MOTA"] for run in runs_of(store, "metrics.MOTA > 70", "metrics.MOTA DESC")] == [99.9, 71.0]
    assert [run.metrics["MOTA"] for run in runs_of(store, "metrics.MOTA < 70")] == [65.0]
    (run,) = runs_of(store, "metrics.MOTA > 80")
    assert {name: run.metrics[name] for name in ("HOTA", "IDSW", "ML")} == {"HOTA": 50, "IDSW": 70, "ML": 75}


def test_runs_are_limited_and_ordered_as_requested_latest_first_by_default(store: MlflowConfig) -> None:
    for number in (2, 3, 1):
        log_run(store, "mot", {"x": number}, PROVENANCE)
    started = [run.started for run in runs_of(store)]
    assert started == sorted(started, reverse=True)
    assert [run.metrics["x"] for run in runs_of(store, "", "metrics.x ASC")] == [1, 2, 3]
    assert [run.metrics["x"] for run in runs_of(store, "metrics.x < 3", "metrics.x DESC", most=1)] == [2]


def test_kinds_and_experiments_are_separate(store: MlflowConfig) -> None:
    log_run(store, "mot", {"x": 1}, PROVENANCE)
    log_run(store, "reid", {"x": 1}, PROVENANCE)
    assert [run.kind for run in runs_of(store, "tags.kind = 'reid'")] == ["reid"]
    assert runs_of(store.model_copy(update={"experiment": "another"})) == []


# --- values that MLflow does not accept -------------------------------------------------------------------------------


def test_values_that_are_not_finite_are_left_out(store: MlflowConfig) -> None:
    log_run(store, "mot", {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0}, PROVENANCE)
    assert runs_of(store)[0].metrics == {"d": 0}


@pytest.mark.parametrize(
    ("name", "logged"),
    [
        ("mAP50(B)", "mAP50_B_"),
        ("recall@0.1FPPI", "recall_0.1FPPI"),
        ("reranked mAP", "reranked mAP"),
        ("straße/MOTA", "straße/MOTA"),
        ("a|b=c,d", "a_b_c_d"),
        ("a//b", "a/b"),
        ("./models/a.pt", "models/a.pt"),
        ("../a/", "a"),
        ("/a/../b", "a/b"),
        ("..", "_"),
        ("", "_"),
    ],
)
def test_names_that_mlflow_does_not_accept_are_changed(store: MlflowConfig, name: str, logged: str) -> None:
    config = {**PROVENANCE["config"], name: {name: 5}}
    log_run(store, "mot", {name: 1.5}, with_notes(config=config, candidates={name: {"tracker": 7}}), candidate=name)
    (run,) = runs_of(store, f"params.`{logged}.{logged}` = '5'")
    assert run.metrics == {logged: 1.5}
    assert run.tags[f"candidates.{logged}.tracker"] == "7"
    assert run.tags["candidate"] == name
    assert status_of(store)[0][1] == "FINISHED"


def test_long_values_are_truncated_and_any_number_is_logged(store: MlflowConfig) -> None:
    config = {**PROVENANCE["config"], "many": {f"p{number}": "x" * 9000 for number in range(250)}}
    metrics = {f"m{number}": float(number) for number in range(321)}
    notes = {f"t{number}": number for number in range(234)}
    log_run(store, "mot", metrics, with_notes(config=config, notes=notes, command=["y" * 9000]))
    (run,) = runs_of(store, f"params.`many.p249` = '{'x' * 500}'")
    assert run.metrics == metrics
    assert {name: run.tags[f"notes.{name}"] for name in notes} == {name: str(value) for name, value in notes.items()}
    assert len(run.tags["command"]) == 500


def test_empty_values_are_logged_and_unknown_ones_are_not(store: MlflowConfig) -> None:
    notes = with_notes(nothing=None, empty={}, text="", false=False, items=[], zero=0)
    log_run(store, "mot", {}, notes)
    tags = runs_of(store)[0].tags
    assert "nothing" not in tags
    assert {name: tags[name] for name in ("empty", "text", "false", "items", "zero")} == {
        "empty": "{}", "text": "", "false": "False", "items": "[]", "zero": "0"
    }  # fmt: skip


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["metrics.MOTA >", "nonsense", "(((", "metrics.MOTA > 'x'", "MOTA > 70", "metrics.a > 1 OR metrics.b > 1", "'"],
)
def test_an_invalid_filter_is_an_invalid_configuration(store: MlflowConfig, query: str) -> None:
    log_run(store, "mot", {"MOTA": 71}, PROVENANCE)
    with pytest.raises(InvalidConfig) as caught:
        runs_of(store, query)
    assert repr(query) in str(caught.value)


@pytest.mark.parametrize("order", ["metrics.MOTA DOWN", "nonsense", ""])
def test_an_invalid_order_is_an_invalid_configuration(store: MlflowConfig, order: str) -> None:
    log_run(store, "mot", {"MOTA": 71}, PROVENANCE)
    with pytest.raises(InvalidConfig, match="ordered by"):
        runs_of(store, "", order)


@pytest.mark.parametrize(
    "uri", ["sqlite:///runs/mlflow.db", "sqlite:///~/none/mlflow.db", "sqlite:///mlflow.db?timeout=5"]
)
def test_a_query_creates_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_runs(MlflowConfig(tracking_uri=uri), "", [], 5) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["runs/mlruns", "file:///tmp/motserve/none", "nonsense://x"])
def test_an_unknown_kind_of_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidConfig, match=uri):
        find_runs(MlflowConfig(tracking_uri=uri), "", [], 5)
    with pytest.raises(MotserveError, match=uri):
        log_run(MlflowConfig(tracking_uri=uri), "mot", {}, PROVENANCE)
    assert list(tmp_path.iterdir()) == []


def test_the_store_uri_may_have_a_tilde_and_database_options(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(database.parent.parent))
    for uri in ("sqlite:///~/new/mlflow.db", f"sqlite:///{database}?timeout=5"):
        store = MlflowConfig(tracking_uri=uri, artifact_dir=None, experiment="at home")
        run_id = log_run(store, "mot", {}, PROVENANCE)
        assert runs_of(store)[0].id == run_id
    assert [path.name for path in database.parent.parent.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_database_is_a_motserve_error(tmp_path: Path) -> None:
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"this is no database " * 100)
    store = MlflowConfig(tracking_uri=f"sqlite:///{broken}", artifact_dir=None)
    with pytest.raises(MotserveError, match=r"mlflow\.db"):
        runs_of(store)
    with pytest.raises(MotserveError, match=r"mlflow\.db"):
        log_run(store, "mot", {}, PROVENANCE)


def test_a_failed_upload_marks_the_run_as_failed(store: MlflowConfig, tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("| a |")
    (tmp_path / "artifacts").write_text("a file where a folder should be")
    with pytest.raises(MotserveError, match="refuses the run"):
        log_run(store, "mot", {"x": 1}, PROVENANCE, [tmp_path / "table.md"], "unlucky")
    assert status_of(store) == [(f"unlucky {PROVENANCE['date']}", "FAILED")]


def test_an_interrupted_upload_marks_the_run_as_failed(
    store: MlflowConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "table.md").write_text("| a |")
    monkeypatch.setattr(MlflowClient, "log_artifact", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log_run(store, "mot", {"x": 1}, PROVENANCE, [tmp_path / "table.md"])
    assert [status for _, status in status_of(store)] == ["FAILED"]


def test_a_missing_artifact_is_named(store: MlflowConfig, tmp_path: Path) -> None:
    with pytest.raises(MotserveError, match=r"none\.md"):
        log_run(store, "mot", {}, PROVENANCE, [tmp_path / "none.md"])


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and closes them."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            try:
                while True:
                    server.accept()[0].close()
            except OSError:
                return

        threading.Thread(target=hang_up, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_an_error_without_the_password(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = silent_server.replace("://", "://ann:secret@")
    for ask in (
        lambda: log_run(MlflowConfig(tracking_uri=uri), "mot", {}, PROVENANCE),
        lambda: find_runs(MlflowConfig(tracking_uri=uri), "", [], 5),
    ):
        with pytest.raises(MotserveError) as caught:
            ask()
        assert silent_server.removeprefix("http://") in str(caught.value)
        assert "secret" not in str(caught.value)


def test_nothing_is_written_beside_the_store(
    store: MlflowConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log_run(store, "mot", {"x": 1}, PROVENANCE)
    assert runs_of(store)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["artifacts"])
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
