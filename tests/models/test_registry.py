"""Versions, the gate, aliases and their history, and names of weights that ask the registry."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

import pytest
from cli_checks import Motserve, assert_error, document
from registry_data import VAL, add_version, make_model

from motserve.config import Config, MlflowConfig, load_config
from motserve.config.registry import GateConfig, RegistryConfig
from motserve.errors import Conflict, InvalidData, MotserveError, NotFound, WeightsUnavailable
from motserve.models.mlflow_store import connect
from motserve.models.registry import CARD, Registry, Scores, judge, read_card
from motserve.models.weights import find_weights, pin_weights, resolve_weights

NAME = "people"


@pytest.fixture
def registry(mlflow_store: MlflowConfig) -> Registry:
    return Registry(mlflow_store)


def add(store: MlflowConfig, folder: Path, *scores: float) -> None:
    """Register versions with these mAP50."""
    for value in scores:
        add_version(store, folder, NAME, value, {"mAP50": value})


def configured(store: MlflowConfig, tmp_path: Path, *names: str) -> Config:
    tree = {"mlflow": store.model_dump(), "cache_dir": str(tmp_path / "cache"), "detector": {"weights": list(names)}}
    return load_config([tree])


# --- the gate ---------------------------------------------------------------------------------------------------------

GATE = GateConfig(metrics=("Rank-1", "mAP"))


def scored(rank1: float, mean: float, key: str = "a") -> dict[str, Scores]:
    return {key: Scores(f"data {key}", key, {"Rank-1": rank1, "mAP": mean})}


PICTURES_AND_TRACKS = GateConfig(metrics=("mAP50",), min_scores={"MOTA": 70.0})


def both(precision: float, accuracy: float) -> dict[str, Scores]:
    return {"p": Scores("pictures", "p", {"mAP50": precision}), "t": Scores("tracks", "t", {"MOTA": accuracy})}


@pytest.mark.parametrize(
    ("candidate", "present", "gate", "passed"),
    [
        (scored(80, 60), scored(80, 60), GATE, True),
        (scored(81, 59), scored(80, 60), GATE, False),
        (scored(79.5, 60), scored(80, 60), GATE, False),
        (scored(79.5, 60), scored(80, 60), GATE.model_copy(update={"tolerance": 0.5}), True),
        (scored(90, 90, "b"), scored(80, 60), GATE, False),
        (scored(80, 60) | scored(10, 10, "b"), scored(80, 60), GATE, True),
        (scored(80, 60) | scored(10, 10, "b"), scored(80, 60) | scored(20, 10, "b"), GATE, False),
        (scored(80, 60), None, GATE, True),
        (scored(80, 60), None, GATE.model_copy(update={"min_scores": {"mAP": 61.0}}), False),
        (scored(80, 60), {}, GATE, False),
        ({}, None, GATE, False),
        (scored(math.nan, 60), scored(80, 60), GATE, False),
        (scored(80, math.nan), None, GATE.model_copy(update={"min_scores": {"mAP": 1.0}}), False),
        ({"a": Scores("a", "a", {"mAP": 99.0})}, None, GATE, False),
        (both(81, 70), both(80, 90), PICTURES_AND_TRACKS, True),
        (both(79, 70), both(80, 60), PICTURES_AND_TRACKS, False),
        (both(81, 69), both(80, 60), PICTURES_AND_TRACKS, False),
        (both(81, 70), {}, PICTURES_AND_TRACKS, False),
    ],
)  # fmt: skip
def test_gate(candidate: dict[str, Scores], present: dict[str, Scores] | None, gate: GateConfig, passed: bool) -> None:
    verdict = judge(candidate, present, gate)
    assert verdict.passed == passed
    assert verdict.reasons


# --- versions and aliases ---------------------------------------------------------------------------------------------


def test_register_and_read(mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path) -> None:
    made = add_version(mlflow_store, tmp_path, NAME, 1.0, {"mAP50": 81.25})
    assert (made.uri, made.role, made.architecture, made.aliases) == (f"models:/{NAME}/1", "detector", "yolov8n", ())
    assert made.scores[VAL].metrics == {"mAP50": 81.25}
    assert registry.version(NAME, 1) == made
    assert registry.models() == [NAME]
    folder = registry.download(made, tmp_path / "down")
    assert read_card(folder).sha256 == made.sha256


def test_a_model_has_one_role(mlflow_store: MlflowConfig, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 1.0)
    with pytest.raises(Conflict, match="people is a detector"):
        add_version(mlflow_store, tmp_path, NAME, 2.0, {"Rank-1": 1.0}, "reid")


def test_promotion_goes_through_the_gate(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(mlflow_store, tmp_path, 80.0, 79.0, 82.0)
    assert registry.promote(NAME, 1, "production").passed
    refused = registry.promote(NAME, 2, "production")
    assert not refused.passed
    assert registry.version(NAME, "production").number == 1
    assert registry.promote(NAME, 3, "production", reason="better").passed
    assert registry.version(NAME, "production").number == 3
    with caplog.at_level(logging.WARNING):
        assert not registry.promote(NAME, 2, "production", force=True, reason="a test").passed
    assert registry.version(NAME, "production").number == 2
    assert any("force" in record.getMessage() for record in caplog.records)
    moves = [(move.before, move.after, move.way, move.reason) for move in registry.history(NAME)]
    assert moves == [(None, 1, "promote", ""), (1, 3, "promote", "better"), (3, 2, "force", "a test")]


def test_staging_is_measured_against_production(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path
) -> None:  # fmt: skip
    add(mlflow_store, tmp_path, 80.0, 70.0)
    registry.promote(NAME, 1, "production")
    assert not registry.promote(NAME, 2, "staging").passed
    assert registry.promote(NAME, 1, "staging").passed, "what is in production may be in staging too"
    assert registry.version(NAME, 1).aliases == ("production", "staging")


def test_rollback_goes_back_step_by_step(mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 1.0, 2.0, 3.0)
    for number in (1, 2, 3):
        registry.promote(NAME, number, "production")
    assert registry.rollback(NAME, "production").number == 2
    assert registry.rollback(NAME, "production").number == 1
    with pytest.raises(Conflict, match="no earlier version in"):
        registry.rollback(NAME, "production")
    registry.promote(NAME, 3, "production")
    assert registry.rollback(NAME, "production").number == 1
    with pytest.raises(Conflict, match="no earlier version in staging"):
        registry.rollback(NAME, "staging")


def test_archived_versions_cannot_be_used(mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 1.0, 2.0)
    registry.promote(NAME, 1, "production")
    with pytest.raises(Conflict, match="is in production"):
        registry.archive(NAME, 1)
    registry.promote(NAME, 2, "production")
    registry.archive(NAME, 1)
    assert registry.version(NAME, 1).archived
    with pytest.raises(Conflict, match="archived"):
        registry.promote(NAME, 1, "production")
    with pytest.raises(Conflict, match="archived"):
        registry.rollback(NAME, "production")
    registry.archive(NAME, 1, undo=True)
    assert registry.rollback(NAME, "production").number == 1


def test_history_is_bounded(mlflow_store: MlflowConfig, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 1.0, 2.0)
    short = Registry(mlflow_store, RegistryConfig(history=3))
    for number in (1, 2, 1, 2, 1):
        short.promote(NAME, number, "production", force=True)
    assert [move.after for move in short.history(NAME)] == [1, 2, 1]


def test_history_fits_into_a_tag_of_any_database(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(mlflow_store, tmp_path, 1.0, 2.0)

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", unknown)
    for turn in range(20):
        registry.promote(NAME, 1 + turn % 2, "production", force=True, reason="why " * 200)
    assert len(connect(mlflow_store).get_registered_model(NAME).tags["history"]) <= 5000
    assert registry.history(NAME)[-1].after == 2
    assert registry.rollback(NAME, "production").number == 1


def test_rollback_handles_moves_that_the_history_lacks(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(mlflow_store, tmp_path, 1.0, 2.0, 3.0, 4.0)
    for number in (1, 2):
        registry.promote(NAME, number, "production")
    client = connect(mlflow_store)

    with monkeypatch.context() as broken:
        broken.setattr(type(client), "set_registered_model_alias", fail)
        with pytest.raises(MotserveError, match="gone"):
            registry.rollback(NAME, "production")
        with pytest.raises(MotserveError, match="gone"):
            registry.promote(NAME, 3, "production")
    assert registry.rollback(NAME, "production").number == 1, "neither of them happened"
    client.set_registered_model_alias(NAME, "production", "3")
    registry.promote(NAME, 4, "production")
    assert registry.rollback(NAME, "production").number == 3, "another user had promoted it"


def fail(*_: object) -> None:
    raise OSError("the network is gone")


def test_models_of_other_tools_are_ignored(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path, command: Motserve
) -> None:
    add(mlflow_store, tmp_path, 1.0, 2.0)
    client = connect(mlflow_store)
    for name in (NAME, "another-user's", "other"):
        if name != NAME:
            client.create_registered_model(name)
        client.create_model_version(name, str(tmp_path))
    assert [one.number for one in registry.versions(NAME)] == [2, 1]
    assert registry.versions("another-user's") == registry.versions("other") == []
    listed = command("models", "list", "--set", f"mlflow.tracking_uri={mlflow_store.tracking_uri}")
    assert listed.exit_code == 0
    assert f"{NAME}/2" in listed.stdout
    client.set_registered_model_alias(NAME, "production", "3")
    assert not registry.promote(NAME, 2, "production").passed, "there is something in production, if of no known score"
    registry.promote(NAME, 2, "production", force=True)


def test_scores_are_added(mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 80.0)
    other = add_version(mlflow_store, tmp_path, NAME, 90.0, {"mAP50": 90.0}, key="w" * 64)
    registry.promote(NAME, 1, "production")
    assert not registry.promote(NAME, 2, "production").passed, "measured on other data"
    added = registry.add_scores(other, [Scores("val", VAL, {"mAP50": 80.5})])
    assert set(added.scores) == {VAL, "w" * 64}
    assert registry.promote(NAME, 2, "production").passed


@pytest.mark.parametrize("which", [7, "staging", "latest"])
def test_missing_models_and_versions_are_refused(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path, which: int | str
) -> None:
    add(mlflow_store, tmp_path, 1.0)
    with pytest.raises(NotFound):
        registry.version(NAME, which)
    with pytest.raises(NotFound, match="no model unknown"):
        registry.versions("unknown")


def test_reading_does_not_create_a_registry(tmp_path: Path) -> None:
    nowhere = Registry(MlflowConfig(tracking_uri=f"sqlite:///{tmp_path}/none/mlflow.db"))
    assert nowhere.models() == []
    with pytest.raises(NotFound, match="there is no registry"):
        nowhere.versions(NAME)
    assert list(tmp_path.iterdir()) == []


# --- cards ------------------------------------------------------------------------------------------------------------


def test_changed_or_missing_weights_are_refused(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", 1.0, {})
    (model / "detector.safetensors").write_bytes(b"something else")
    with pytest.raises(WeightsUnavailable, match="was changed"):
        read_card(model)
    (model / "detector.safetensors").unlink()
    with pytest.raises(WeightsUnavailable, match="lacks the weights"):
        read_card(model)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"role": "detector", "scores": [], "unknown": 1}'])
def test_broken_cards(tmp_path: Path, text: str) -> None:
    (tmp_path / CARD).write_text(text)
    with pytest.raises(InvalidData, match="not a card"):
        read_card(tmp_path)


def test_cards_cannot_refer_to_other_folders(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", 1.0, {})
    shutil.copy(model / "detector.safetensors", tmp_path / "other.safetensors")
    card = (model / CARD).read_text().replace("detector.safetensors", "../other.safetensors")
    (model / CARD).write_text(card)
    with pytest.raises(WeightsUnavailable, match="lacks"):
        read_card(model)


# --- names of weights -------------------------------------------------------------------------------------------------


def test_weights_from_the_registry(mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 1.0, 2.0)
    registry.promote(NAME, 1, "production")
    config = configured(mlflow_store, tmp_path, f"models:/{NAME}@production", "bundled")
    assert find_weights("detector", config)[0] == (f"models:/{NAME}@production", None), (
        "nothing is downloaded for a lookup"
    )
    assert pin_weights("detector", config) == (f"models:/{NAME}/1", "bundled")
    first = resolve_weights("detector", config)
    assert (first.name, first.sha256) == (f"models:/{NAME}/1", registry.version(NAME, 1).sha256)
    assert first.describe() == {"name": f"{NAME}/1", "sha256": first.sha256, "fallback": ""}
    found = find_weights("detector", config)[0][1]
    assert found is not None
    assert found.path == first.path
    registry.promote(NAME, 2, "production")
    second = resolve_weights("detector", config)
    assert second.name == f"models:/{NAME}/2"
    assert second.sha256 != first.sha256
    assert resolve_weights("detector", configured(mlflow_store, tmp_path, f"models:/{NAME}/1")).path == first.path


def test_the_last_answer_of_a_registry_is_used_while_it_is_down(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(mlflow_store, tmp_path, 1.0)
    registry.promote(NAME, 1, "production")
    known = resolve_weights("detector", configured(mlflow_store, tmp_path, f"models:/{NAME}@production"))
    Path(mlflow_store.tracking_uri.removeprefix("sqlite:///")).unlink()
    config = configured(mlflow_store, tmp_path, f"models:/{NAME}@production", f"models:/{NAME}@staging")
    with caplog.at_level(logging.WARNING):
        assert resolve_weights("detector", config) == known
    assert "the last known version is used" in caplog.text
    assert pin_weights("detector", config) == (f"models:/{NAME}@production", f"models:/{NAME}@staging")
    with pytest.raises(WeightsUnavailable, match="there is no registry"):
        resolve_weights("detector", configured(mlflow_store, tmp_path, f"models:/{NAME}@staging"))


def test_a_pinned_version_is_found_without_the_registry(
    mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path
) -> None:
    """Replicas request the exact version; they must find it by the alias when they start again without a registry."""
    add(mlflow_store, tmp_path, 1.0, 2.0)
    alias = f"models:/{NAME}@production"
    for number in (1, 2):
        registry.promote(NAME, number, "production")
        (pinned,) = pin_weights("detector", configured(mlflow_store, tmp_path, alias))
        served = resolve_weights("detector", configured(mlflow_store, tmp_path, pinned))
    Path(mlflow_store.tracking_uri.removeprefix("sqlite:///")).unlink()
    assert resolve_weights("detector", configured(mlflow_store, tmp_path, alias)) == served


def test_a_fallback_reason_has_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = MlflowConfig(tracking_uri="http://user:secret@127.0.0.1:9")
    weights = resolve_weights("detector", configured(store, tmp_path, f"models:/{NAME}@production", "bundled"))
    assert "has no model people" in weights.fallback
    assert "secret" not in weights.fallback, "it stands in every result"


def test_changed_files_are_refused(mlflow_store: MlflowConfig, registry: Registry, tmp_path: Path) -> None:
    version = add_version(mlflow_store, tmp_path, NAME, 1.0, {"mAP50": 1.0})
    (stored,) = (tmp_path / "artifacts").rglob("detector.safetensors")
    good = stored.read_bytes()
    stored.write_bytes(make_model(tmp_path / "evil", 6.0, {}).joinpath("detector.safetensors").read_bytes())
    shutil.copy(tmp_path / "evil" / CARD, stored.with_name(CARD))
    config = configured(mlflow_store, tmp_path, version.uri)
    with pytest.raises(WeightsUnavailable, match="changed since it was registered"):
        resolve_weights("detector", config)
    assert not list((tmp_path / "cache").rglob("*.safetensors")), "nothing half-checked is left"
    stored.write_bytes(good)
    shutil.copy(tmp_path / f"{NAME}-1.0-v" / CARD, stored.with_name(CARD))
    path = resolve_weights("detector", config).path
    path.write_bytes(b"spoilt in the cache")
    with pytest.raises(WeightsUnavailable, match="was changed"):
        resolve_weights("detector", config)


@pytest.mark.parametrize("name", ["models:/", "models:/people", "models:/people@", "models:/people/x", "models:/a/b/1"])
def test_malformed_names(mlflow_store: MlflowConfig, tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsUnavailable, match="not of the form"):
        resolve_weights("detector", configured(mlflow_store, tmp_path, name))


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def command(motserve: Motserve, mlflow_store: MlflowConfig, monkeypatch: pytest.MonkeyPatch) -> Motserve:
    monkeypatch.setenv("MOTSERVE_MLFLOW__TRACKING_URI", mlflow_store.tracking_uri)
    return motserve


def test_commands(command: Motserve, mlflow_store: MlflowConfig, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 80.0, 79.0)
    assert "is in production now" in command("models", "promote", NAME, 1, "--to", "production").stdout
    refused = command("models", "promote", NAME, 2, "--to", "production")
    assert refused.exit_code == 5
    assert "79.00, below 80.00" in refused.stdout
    assert "refused: models:/people/2 is not promoted to production" in refused.stderr
    forced = command("models", "promote", NAME, 2, "--to", "production", "--force", "--reason", "to see")
    assert forced.exit_code == 0
    assert "although the gate refused" in forced.stdout
    shown = command("models", "show", NAME, "--json", "versions.json")
    assert "production" in shown.stdout
    assert "to see" in shown.stdout
    assert [move["way"] for move in document("versions.json")["history"]] == ["promote", "force"]
    assert "models:/people/1 is in production again" in command("models", "rollback", NAME).stdout
    assert "archived" in command("models", "archive", NAME, 2).stdout
    assert "people/2" not in command("models", "list").stdout
    assert "people/1" in command("models", "list").stdout
    assert "79.00" in command("models", "show", NAME, 2).stdout


def test_tolerance_is_configured(command: Motserve, mlflow_store: MlflowConfig, tmp_path: Path) -> None:
    add(mlflow_store, tmp_path, 80.0, 79.0)
    command("models", "promote", NAME, 1, "--to", "production")
    tolerant = command("models", "promote", NAME, 2, "--to", "production", "-s", "registry.detector.tolerance=1")
    assert tolerant.exit_code == 0, tolerant.stderr


def test_wrong_commands_are_refused(command: Motserve, mlflow_store: MlflowConfig, tmp_path: Path) -> None:
    assert_error(command("models", "show", "unknown"), 3, "no model unknown")
    add(mlflow_store, tmp_path, 80.0)
    assert_error(command("models", "promote", NAME, 5, "--to", "staging"), 3, "no version 5")
    assert_error(command("models", "rollback", NAME), 3, "no earlier version in")
    wrong = command("models", "measure", NAME, 1, "--root", tmp_path)
    assert_error(wrong, 2, "is a detector", "--data and --gt")
    assert_error(command("models", "measure", NAME, 1), 2, "is measured with one of")
