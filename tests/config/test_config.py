from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from motserve.cli.options import read_candidates
from motserve.config import (
    BotSortConfig,
    ByteTrackConfig,
    Config,
    SortConfig,
    change_config,
    load_config,
    parse_overrides,
)
from motserve.errors import InvalidConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MOTSERVE_"):
            monkeypatch.delenv(name)


def yaml_file(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def keys_of_schema() -> Iterator[tuple[str, dict[str, Any]]]:
    schema = Config.model_json_schema()
    for section, body in {"Config": schema, **schema["$defs"]}.items():
        for key, field in body["properties"].items():
            yield f"{section}.{key}", field


def test_defaults_are_a_valid_configuration() -> None:
    config = load_config()
    assert config == Config()
    assert config.detector.weights == ("yolov8s.pt", "bundled")


@pytest.mark.parametrize(("key", "field"), [pytest.param(k, f, id=k) for k, f in keys_of_schema()])
def test_every_key_has_a_description_and_every_number_has_bounds(key: str, field: dict[str, Any]) -> None:
    assert field.get("description", "").endswith("."), f"{key} has no description"
    if field.get("type") in ("integer", "number"):
        assert {"minimum", "exclusiveMinimum"} & set(field), f"{key} has no lower bound"
        assert {"maximum", "exclusiveMaximum"} & set(field), f"{key} has no upper bound"


NO_DEFAULTS = {"benchmark", "training", "compare", "environments", "tracker", "postprocessing"}


@pytest.mark.parametrize(
    "path", [p for p in sorted(CONFIGS.rglob("*.yaml")) if NO_DEFAULTS.isdisjoint(p.parts)], ids=lambda p: p.name
)
def test_shipped_files_hold_the_defaults(path: Path) -> None:
    assert load_config([path]) == Config()


COMMENTED = [
    *(f"{name}.yaml" for name in ("detector", "reid", "serving", "evaluation")),
    "postprocessing/whole_files.yaml",
]


@pytest.mark.parametrize("name", COMMENTED)
def test_comments_of_shipped_files_are_the_descriptions(name: str) -> None:
    definitions = Config.model_json_schema()["$defs"].values()
    descriptions = {field["description"] for body in definitions for field in body.get("properties", {}).values()}
    comments = re.findall(r"((?:^ +# .*\n)+) +\w+:", (CONFIGS / name).read_text(), re.MULTILINE)
    assert comments
    for comment in comments:
        assert " ".join(re.sub(r"^ +# ", "", comment, flags=re.MULTILINE).split()) in descriptions


TRACKERS = [path for path in sorted((CONFIGS / "tracker").glob("*.yaml")) if "published" not in path.name]


@pytest.mark.parametrize("path", TRACKERS, ids=lambda p: p.stem)
def test_shipped_tracker_files_hold_the_defaults(path: Path) -> None:
    assert load_config([path]).tracker == load_config([{"tracker": {"name": path.stem}}]).tracker


def test_the_shipped_postprocessing_equals_empty_sections() -> None:
    shipped = load_config([CONFIGS / "postprocessing" / "whole_files.yaml"])
    assert shipped == load_config([{"regrouping": {}, "linking": {}, "interpolation": {}}]) != Config()


def test_another_tracker_inherits_no_keys(tmp_path: Path) -> None:
    below = yaml_file(
        tmp_path, "tracker: {name: bytetrack, match_distance: 0.9, confidence_scaling: null}", "below.yaml"
    )
    config = load_config([below, {"tracker": {"name": "sort"}}])
    assert config.tracker == SortConfig()
    config = change_config(config, {"tracker": {"name": "bytetrack", "lost_buffer_s": 3}})
    assert config.tracker == ByteTrackConfig(lost_buffer_s=3)
    assert load_config([below, {"tracker": {"lost_buffer_s": 3}}]).tracker == ByteTrackConfig(
        match_distance=0.9, confidence_scaling=None, lost_buffer_s=3
    )
    assert load_config([below, {"tracker": {"name": "bytetrack"}}]).tracker == ByteTrackConfig(
        match_distance=0.9, confidence_scaling=None
    )


@pytest.mark.parametrize("first", [0, 1])
def test_keys_without_a_name_belong_to_the_tracker_that_is_named(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["tracker.lost_buffer_s=1", "tracker.name=botsort"]
    assert load_config([], parse_overrides([both[first], both[1 - first]])).tracker == BotSortConfig(lost_buffer_s=1)
    monkeypatch.setenv("MOTSERVE_TRACKER__LOST_BUFFER_S", "1")
    assert load_config([], parse_overrides(["tracker.name=botsort"])).tracker == BotSortConfig(lost_buffer_s=1)
    monkeypatch.setenv("MOTSERVE_TRACKER__HIGH_CONFIDENCE", "0.5")
    with pytest.raises(InvalidConfig, match=r"tracker\.high_confidence of sort: Extra inputs"):
        load_config([], parse_overrides(["tracker.name=sort"]))


def test_a_threshold_above_the_reference_level_is_refused() -> None:
    strict = {"tracker": {"new_track_confidence": 0.8}}
    with pytest.raises(InvalidConfig, match=r"tracker of bytetrack: .*0\.8 must be below .*scaling\.reference 0\.775"):
        load_config([strict])
    assert load_config([strict, {"tracker": {"confidence_scaling": None}}]).tracker.name == "bytetrack"


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        ({"name": "nope"}, "tracker: .*'bytetrack', 'botsort', 'ocsort', 'sort', 'deepsort', 'strongsort'"),
        ({"name": "sort", "high_confidence": 0.5}, r"tracker\.high_confidence of sort: Extra inputs"),
        ({"match_distance": 5}, r"tracker\.match_distance of bytetrack: Input should be less"),
        (
            {"confidence_scaling": {"min_level": 0}},
            r"tracker\.confidence_scaling\.min_level of bytetrack: .*greater",
        ),
        ("bytetrack", "tracker: "),
    ],
)
def test_the_error_of_an_invalid_tracker_names_its_key(tracker: object, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        load_config([{"tracker": tracker}])


def test_shipped_candidates_are_valid() -> None:
    candidates = read_candidates(CONFIGS / "compare" / "detectors.yaml", Config(), ["detector"])
    assert candidates["efficientdet-d0"].detector.image_size == 512
    assert {name: one.detector.weights for name, one in candidates.items()}["yolov8s"] == ("yolov8s.pt",)


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    first = yaml_file(tmp_path, "detector: {confidence: 0.2, nms_iou: 0.5}", "first.yaml")
    second = yaml_file(tmp_path, "detector: {confidence: 0.3}", "second.yaml")
    config = load_config([first, second, {"tracker": {"kalman": {"position_noise": 0.1}}}])
    assert (config.detector.confidence, config.detector.nms_iou) == (0.3, 0.5)
    tracker = config.tracker
    assert isinstance(tracker, ByteTrackConfig)
    assert tracker.kalman.position_noise == 0.1
    assert tracker.kalman.velocity_noise == ByteTrackConfig().kalman.velocity_noise


def test_overrides_win_over_the_environment_and_it_wins_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = yaml_file(tmp_path, "pipeline: {chunk_size: 1, window: 1}\ndetector: {image_size: 320}")
    monkeypatch.setenv("MOTSERVE_PIPELINE__CHUNK_SIZE", "2")
    monkeypatch.setenv("MOTSERVE_PIPELINE__WINDOW", "2")
    config = load_config([file], parse_overrides(["pipeline.window=3"]))
    assert config.detector.image_size == 320
    assert config.pipeline.chunk_size == 2
    assert config.pipeline.window == 3


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("MOTSERVE_MODELS_DIR", "/weights", "models_dir", Path("/weights")),
        ("MOTSERVE_DETECTOR__CONFIDENCE", "0.25", "detector.confidence", 0.25),
        ("MOTSERVE_DETECTOR__HALF", "no", "detector.half", False),
        ("MOTSERVE_DETECTOR__WEIGHTS", "a.pt", "detector.weights", ("a.pt",)),
        ("MOTSERVE_DETECTOR__WEIGHTS", "[a.pt, bundled]", "detector.weights", ("a.pt", "bundled")),
        ("MOTSERVE_DETECTOR", "{confidence: 0.3}", "detector.confidence", 0.3),
        ("MOTSERVE_TRACKER__KALMAN__POSITION_NOISE", "0.1", "tracker.kalman.position_noise", 0.1),
        ("MOTSERVE_SERVING__ALLOWED_ROOTS", "[/videos]", "serving.allowed_roots", (Path("/videos"),)),
        ("MOTSERVE_SERVING__DETECTOR__AUTOSCALING__MAX_REPLICAS", "4", "serving.detector.autoscaling.max_replicas", 4),
        ("MOTSERVE_REID__POLICY", "off", "reid.policy", "off"),
    ],
)
def test_environment_sets_any_key(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, key: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    setting: object = load_config()
    for part in key.split("."):
        setting = getattr(setting, part)
    assert setting == value


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"detectr": {}}, "detectr"),
        ({"detector": {"confidnce": 0.2}}, "detector.confidnce"),
        ({"tracker": {"kalman": {"noise": 1}}}, "tracker.kalman.noise"),
        ({"serving": {"embedder": {"autoscaling": {"replicas": 1}}}}, "serving.embedder.autoscaling.replicas"),
        ({"_env_file": "x"}, "_env_file"),
        ({1: 2}, "1"),
        ({"detector": {1: 2}}, "detector.1"),
    ],
)
def test_unknown_keys_are_refused_with_their_name(tree: dict[Any, Any], named: str) -> None:
    with pytest.raises(InvalidConfig, match=named):
        load_config([tree])


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("MOTSERVE_DETECTR__CONFIDENCE", "MOTSERVE_DETECTR__CONFIDENCE"),
        ("MOTSERVE_DETECTOR__CONFIDNCE", "detector.confidnce"),
        ("MOTSERVE_TRACKER__KALMAN__POSITON_NOISE", "tracker.kalman.positon_noise"),
    ],
)
def test_misspelt_variables_are_not_ignored(monkeypatch: pytest.MonkeyPatch, variable: str, named: str) -> None:
    monkeypatch.setenv(variable, "0.2")
    with pytest.raises(InvalidConfig, match=named):
        load_config()


def test_unrelated_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTSERVE_DATA", "/data")
    monkeypatch.setenv("OTHER__THING", "1")
    assert load_config() == Config()


@pytest.mark.parametrize(
    "assignment",
    [
        "detector.confidence=1.5",
        "detector.confidence=high",
        "detector.image_size=333",
        "detector.weights=[]",
        "detector.device=gpu",
        "detector=5",
        "pipeline.window=0",
        "reid.policy=sometimes",
        "tracker.name=nope",
        "tracker.high_confidence=0.9",
        "serving.detector.autoscaling.min_replicas=3",
    ],
)
def test_values_out_of_bounds_are_refused_with_their_key(assignment: str) -> None:
    section = assignment.partition("=")[0].partition(".")[0]
    with pytest.raises(InvalidConfig, match=section):
        load_config(overrides=parse_overrides([assignment]))


def test_a_bare_off_is_not_a_boolean(tmp_path: Path) -> None:
    assert load_config(overrides=parse_overrides(["reid.policy=off"])).reid.policy == "off"
    assert load_config([yaml_file(tmp_path, "reid: {policy: off}")]).reid.policy == "off"


@pytest.mark.parametrize("text", ["a: [", "- detector\n- tracker", "just text", "\x00"])
def test_files_without_a_mapping_are_refused_with_their_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"a\.yaml"):
        load_config([yaml_file(tmp_path, text)])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"none\.yaml"):
        load_config([tmp_path / "none.yaml"])
    with pytest.raises(InvalidConfig, match="directory"):
        load_config([tmp_path])
    (tmp_path / "latin.yaml").write_bytes(b"detector: \xff")
    with pytest.raises(InvalidConfig, match=r"latin\.yaml"):
        load_config([tmp_path / "latin.yaml"])


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config([yaml_file(tmp_path, "# nothing yet\n")]) == Config()


@pytest.mark.parametrize("assignment", ["detector.confidence", "=1", "detector.=1", ".confidence=1", ""])
def test_overrides_need_a_key_and_a_value(assignment: str) -> None:
    with pytest.raises(InvalidConfig, match=r"section\.key=value"):
        parse_overrides([assignment])


def test_override_values_are_yaml() -> None:
    assert parse_overrides(["a.b=[x, y]", "a.c=1e2", "a.d= text "]) == {"a": {"b": ["x", "y"], "c": "1e2", "d": "text"}}
    with pytest.raises(InvalidConfig, match=r"a\.b"):
        parse_overrides(["a.b=["])


@pytest.mark.parametrize("name", ["MOTSERVE_DETECTR__WEIGHTS", "MOTSERVE_MODELSDIR"])
def test_misspelt_section_variables_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(InvalidConfig, match=name):
        load_config()


def test_environment_values_that_are_not_yaml_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTSERVE_DETECTOR__CLASSES", "[")
    with pytest.raises(InvalidConfig, match="CLASSES"):
        load_config()


def test_a_dumped_configuration_can_be_loaded() -> None:
    config = load_config(overrides=parse_overrides(["reid.policy=off", "detector.weights=[a.pt, b.pt]"]))
    assert load_config([yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))]) == config


def test_a_configuration_is_immutable() -> None:
    with pytest.raises(ValidationError):
        load_config().detector.confidence = 0.5  # type: ignore[misc]


def test_two_cores_have_room_for_all_active_videos() -> None:
    serving = Config().serving
    replicas = serving.detector.cpus + serving.embedder.cpus + serving.ingress.cpus + serving.metrics.cpus
    sessions = serving.max_active_videos * serving.session.cpus
    assert replicas + sessions <= 2, "the last video would wait until another one ends"
