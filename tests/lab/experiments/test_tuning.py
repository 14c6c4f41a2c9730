from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_data import OFF, PUBLISHED, load_written, write_sequence

from motserve.config import Config, change_config, load_config
from motserve.errors import InvalidConfig, InvalidData
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.sequences import LabelledSequence
from motserve.lab.tuning import search as tuning
from motserve.lab.tuning.search import (
    Trial,
    Tuned,
    Values,
    by_name,
    halves,
    inside,
    nested,
    score_tracking,
    tune,
)

MATCH = "tracker.match_distance"
HIGH, NEW = "tracker.high_confidence", "tracker.new_track_confidence"


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledSequence]:
    """Two sequences of people who walk in straight lines."""
    root = tmp_path_factory.mktemp("walk")
    write_sequence(root, "a", frames=20)
    write_sequence(root, "b", frames=31, seed=1)
    return load_written(root, load_config([OFF]))


@pytest.fixture
def search(sequences: list[LabelledSequence], tmp_path: Path) -> Callable[..., Tuned]:
    """A search over halves of the sequences."""

    def run(config: Config, progress: Callable[..., None] = lambda *_: None) -> Tuned:
        return tune(halves(sequences), config, Cache(tmp_path), progress)

    return run


def configure(space: Mapping[str, Mapping[str, Any]] | None = None, **settings: Any) -> Config:
    ranges = {} if space is None else {"space": space}
    return load_config([OFF, PUBLISHED, {"tuning": {"trials": 6, **ranges, **settings}}])


def start_of(config: Config) -> dict[str, float]:
    values = {}
    for key in config.tuning.space:
        section, name = key.split(".")
        values[key] = getattr(getattr(config, section), name)
    return values


# --- splits -----------------------------------------------------------------------------------------------------------


def test_halves_are_those_usual_with_the_motchallenge(sequences: list[LabelledSequence]) -> None:
    split = halves(sequences)
    assert [(part.name, len(part.detected)) for part in split.train] == [("a", 11), ("b", 16)]
    assert [(part.name, len(part.detected)) for part in split.held_out] == [("a", 9), ("b", 15)]


def test_whole_sequences_can_be_held_out(sequences: list[LabelledSequence]) -> None:
    split = by_name(sequences, ["b"])
    assert ([part.name for part in split.train], [part.name for part in split.held_out]) == (["a"], ["b"])
    assert split.held_out[0] is sequences[1]


@pytest.mark.parametrize("names", [["c"], ["a", "c"], ["a", "b"], ["b", "a", "b"], []])
def test_a_split_needs_existing_sequences_on_both_sides(sequences: list[LabelledSequence], names: list[str]) -> None:
    with pytest.raises(InvalidData, match=r"cannot hold out .* of a, b"):
        by_name(sequences, names)


# --- the search -------------------------------------------------------------------------------------------------------


def test_the_start_is_the_first_trial_and_is_reported_beside_the_best(
    search: Callable[..., Tuned], sequences: list[LabelledSequence], tmp_path: Path
) -> None:
    config = configure(seed=3)
    reports = []
    tuned = search(config, lambda *what: reports.append(what))
    assert len(tuned.trials) == 6
    assert tuned.trials[0].values == start_of(config)
    scores = [trial.score for trial in tuned.trials]
    assert tuned.best == tuned.trials[scores.index(max(score for score in scores if score is not None))].values
    assert [number for number, _ in reports] == [1, 2, 3, 4, 5, 6]
    assert [best for _, best in reports] == [max(s for s in scores[:n] if s is not None) for n in range(1, 7)]
    for trial in tuned.trials:
        assert inside(trial.values, config.tuning.space)

    split = halves(sequences)
    assert list(tuned.scores) == ["start", "best"]
    for name, values in (("start", start_of(config)), ("best", tuned.best)):
        for part, chosen in (("train", split.train), ("held_out", split.held_out)):
            direct = score_tracking(chosen, change_config(config, nested(values)), Cache(tmp_path))
            assert tuned.scores[name][part].scores == direct.scores
    assert tuned.scores["start"]["train"].scores.hota == scores[0]
    assert tuned.scores["best"]["train"].scores.hota == max(score for score in scores if score is not None)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(search: Callable[..., Tuned]) -> None:
    first, again, other = (search(configure(seed=seed)) for seed in (5, 5, 6))
    assert first.trials == again.trials
    assert first.best == again.best
    assert first.trials[0] == other.trials[0]
    assert first.trials[1:] != other.trials[1:]


@pytest.mark.parametrize("objective", ["HOTA", "MOTA", "IDF1"])
def test_the_objective_is_configurable(search: Callable[..., Tuned], objective: str) -> None:
    tuned = search(configure(objective=objective, trials=2))
    assert tuned.trials[0].score == tuned.scores["start"]["train"].scores.as_dict()[objective]


def test_the_search_never_uses_held_out_sequences(
    sequences: list[LabelledSequence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = halves(sequences)
    searched: list[LabelledSequence] = []
    searching = True
    real = tuning.track_sequence

    def spy(sequence: LabelledSequence, config: Config, cache: Cache) -> Any:
        if searching:
            searched.append(sequence)
        return real(sequence, config, cache)

    def progress(number: int, best: float | None) -> None:
        nonlocal searching
        searching = number < 6

    monkeypatch.setattr(tuning, "track_sequence", spy)
    trials = tune(split, configure(), Cache(tmp_path), progress).trials
    assert len(searched) == 2 * sum(trial.score is not None for trial in trials) > 6
    assert {id(sequence) for sequence in searched} == {id(sequence) for sequence in split.train}


def test_contradictory_values_are_skipped(search: Callable[..., Tuned]) -> None:
    tuned = search(configure({HIGH: {"low": 0.2, "high": 0.9}, NEW: {"low": 0.2, "high": 0.9}}, trials=25))
    assert len(tuned.trials) == 25
    for trial in tuned.trials:
        assert (trial.score is None) == (trial.values[HIGH] > trial.values[NEW])
    assert 2 < sum(trial.score is None for trial in tuned.trials) < 23
    assert tuned.best[HIGH] <= tuned.best[NEW]


def test_a_search_without_a_valid_trial_is_an_error(search: Callable[..., Tuned]) -> None:
    reports = []
    with pytest.raises(InvalidConfig, match=r"all tried sets of parameters .* tuning\.space"):
        search(configure({HIGH: {"low": 0.75, "high": 0.9}}, trials=3), lambda *what: reports.append(what))
    assert reports == [(1, None), (2, None), (3, None)]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("tracker.nope", "not a key"),
        ("nope", "not a key"),
        ("tracker..match_distance", "not a key"),
        ("", "not a key"),
        ("tracker.match_distance.more", "not a key"),
        ("tracker.model_fields_set", "not a key"),
        ("tracker.model_dump", "not a key"),
        ("detector.weights.count", "not a key"),
        ("tracker", "only numbers"),
        ("tracker.name", "'bytetrack'; only numbers"),
        ("tracker.fuse_score", "True; only numbers"),
        ("tracker.kalman.reference_rate_hz", "None; only numbers"),
        ("detector.weights", "only numbers"),
    ],
)
def test_only_numbers_of_the_configuration_can_be_searched(search: Callable[..., Tuned], key: str, said: str) -> None:
    config = configure({MATCH: {"low": 0.6, "high": 0.9}, key: {"low": 0.1, "high": 0.9}})
    with pytest.raises(InvalidConfig) as caught:
        search(config)
    assert str(caught.value).startswith(f"tuning.space: {key} is ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("key", ["detector.confidence", "detector.nms_iou", "pipeline.window", "video.crf"])
def test_keys_that_cannot_change_the_tracks_are_refused(search: Callable[..., Tuned], key: str) -> None:
    """Detections are computed before the search: every trial would have the same score."""
    with pytest.raises(InvalidConfig, match=rf"tuning\.space: {key} .*tracker.*reid"):
        search(configure({key: {"low": 0.1, "high": 0.9}}))


def test_a_start_outside_the_ranges_is_not_tried(search: Callable[..., Tuned]) -> None:
    tuned = search(configure({MATCH: {"low": 0.85, "high": 0.95}}))
    assert all(0.85 <= trial.values[MATCH] <= 0.95 for trial in tuned.trials)
    assert len(tuned.trials) == 6


def test_steps_and_logarithmic_ranges_are_respected(search: Callable[..., Tuned]) -> None:
    config = configure(
        {
            MATCH: {"low": 0.6, "high": 0.9, "step": 0.1},
            "tracker.lost_buffer_s": {"low": 0.01, "high": 100, "log": True},
        },
        trials=12,
    )
    trials = search(config).trials
    assert {round(trial.values[MATCH], 6) for trial in trials} <= {0.6, 0.7, 0.8, 0.9}
    buffers = sorted(trial.values["tracker.lost_buffer_s"] for trial in trials)
    assert buffers[2] < 1
    assert buffers[-1] > 10


def test_whole_numbers_are_searched_in_whole_steps(search: Callable[..., Tuned], tmp_path: Path) -> None:
    key = "reid.gallery.size"
    tuned = search(configure({key: {"low": 1, "high": 20, "step": 1}}))
    assert all(trial.score is not None and trial.values[key] % 1 == 0 for trial in tuned.trials)
    loaded = written_and_read(tuned, tmp_path)
    assert loaded.reid.gallery.size == tuned.best[key]
    assert type(loaded.reid.gallery.size) is int


@pytest.mark.parametrize("part", [{}, {"step": 0.5}, {"low": 0.5, "step": 1}, {"log": True}])
def test_whole_numbers_in_other_steps_would_waste_the_trials(
    search: Callable[..., Tuned], part: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfig, match=r"tuning\.space: reid\.gallery\.size is a whole number"):
        search(configure({"reid.gallery.size": {"low": 1, "high": 20, **part}}))


def written_and_read(tuned: Tuned, folder: Path) -> Config:
    """Write the result as `motserve tune` writes `best.yaml`, and load it as `--config` does."""
    path = folder / "best.yaml"
    path.write_text(yaml.safe_dump(nested(tuned.best), sort_keys=False))
    return load_config([path])


def test_the_best_parameters_can_be_loaded_as_a_configuration(search: Callable[..., Tuned], tmp_path: Path) -> None:
    config = configure(
        {
            MATCH: {"low": 0.6, "high": 0.95},
            "tracker.kalman.position_noise": {"low": 0.01, "high": 0.2, "log": True},
            "tracker.lost_buffer_s": {"low": 1e-7, "high": 1e-5, "log": True},
            "reid.max_distance": {"low": 0.1, "high": 0.5},
        },
        trials=3,
    )
    tuned = search(config)
    loaded = written_and_read(tuned, tmp_path)
    assert loaded.tracker.match_distance == tuned.best[MATCH]
    assert loaded.tracker.kalman.position_noise == tuned.best["tracker.kalman.position_noise"]
    assert loaded.tracker.lost_buffer_s == tuned.best["tracker.lost_buffer_s"] < 1e-4
    assert loaded.reid.max_distance == tuned.best["reid.max_distance"]
    assert loaded == change_config(load_config(), nested(tuned.best))


def test_skipped_values_are_logged(search: Callable[..., Tuned], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "motserve"):
        tuned = search(configure({HIGH: {"low": 0.5, "high": 0.9}}, trials=8))
    notes = [record.getMessage() for record in caplog.records if "not tried" in record.getMessage()]
    assert len(notes) == sum(trial.score is None for trial in tuned.trials) > 0


# --- on Ray Tune ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[None]:
    """Shut Ray down after the test if it did not run before."""
    import ray

    running = ray.is_initialized()
    yield
    if not running:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_search_with_two_workers_scores_as_with_one(sequences: list[LabelledSequence], tmp_path: Path) -> None:
    config = configure(trials=8, workers=2, space={HIGH: {"low": 0.4, "high": 0.8}, MATCH: {"low": 0.6, "high": 0.9}})
    reports = []
    tuned = tune(halves(sequences), config, Cache(tmp_path), lambda *what: reports.append(what))
    assert len(tuned.trials) == 8
    assert start_of(config) in [trial.values for trial in tuned.trials]
    assert sorted(number for number, _ in reports) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert any(trial.score is None for trial in tuned.trials)
    for trial in tuned.trials:
        assert (trial.score is None) == (trial.values[HIGH] > config.tracker.new_track_confidence)
    scores = [trial.score for trial in tuned.trials if trial.score is not None]
    assert reports[-1][1] == max(scores) == tuned.scores["best"]["train"].scores.hota
    alone = tuning._objective(halves(sequences).train, config, Cache(tmp_path), tuned.best)
    assert alone == max(scores)
    assert written_and_read(tuned, tmp_path).tracker.match_distance == tuned.best[MATCH]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_contradictions_and_errors_are_returned_from_workers() -> None:
    from motserve.lab.tuning.ray_search import search_on_ray

    settings = configure(trials=4, workers=2, space={"x": {"low": 0, "high": 1}}).tuning

    def contradict(values: Values) -> float | None:
        return None if values["x"] > 0.8 else 1 - values["x"]

    trials = search_on_ray(contradict, settings, {"x": 0.9}, lambda *_: None)
    assert len(trials) == 4
    assert Trial({"x": 0.9}, None) in trials
    assert all(trial.score == contradict(trial.values) for trial in trials)

    def fail(values: Values) -> float:
        raise InvalidData("gt.txt, line 3: broken")

    with pytest.raises(InvalidData, match=r"gt\.txt, line 3: broken"):
        search_on_ray(fail, settings, {"x": 0.5}, lambda *_: None)
