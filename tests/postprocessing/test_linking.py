from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tracked_frames import lefts, video

from motserve.config import LinkingConfig, load_config
from motserve.errors import InvalidConfig, InvalidData, WeightsUnavailable
from motserve.postprocessing import PostProcessor, Tracklet, link_identities
from motserve.postprocessing.aflink import AFLink, AFLinkScorer, Shape, encode
from motserve.postprocessing.linking import find_candidate_links
from motserve.types import INTERPOLATED, NO_DETECTION
from training.linker import command as linker
from training.linker.config import LinkerTraining, load_linker_config
from training.linker.pairs import collect_pairs

CONFIG = Path(__file__).parents[2] / "configs" / "training" / "linker.yaml"
WIDE = LinkingConfig(max_gap_s=10, max_distance=10)


def sure(pairs: Sequence[tuple[Tracklet, Tracklet]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.ones(len(pairs))


def walker(start: float, speed: float, times: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Tracklet:
    left = start + speed * times
    return Tracklet(times, np.stack([left, left * 0, left + 40, left * 0 + 100], axis=1).astype(np.float32))


# --- which identities are linked --------------------------------------------------------------------------------------


def test_a_chain_of_three_gets_the_number_of_the_first() -> None:
    frames = video([[(4, 0, 0.9)], [], [(2, 10, 0.9)], [], [(9, 20, 0.9)]])
    linked = link_identities(frames, LinkingConfig(), sure)
    assert [frame.identities.tolist() for frame in linked] == [[4], [], [4], [], [4]]
    assert [frame.tracks.ids.tolist() for frame in linked] == [[104], [], [102], [], [109]]
    assert lefts(linked, 4) == {0: 0, 2: 10, 4: 20}


def test_identities_present_at_the_same_time_are_not_linked() -> None:
    frames = video([[(1, 0, 0.9)], [(1, 5, 0.9), (2, 5, 0.9)], [(2, 10, 0.9)]])
    assert find_candidate_links(frames, WIDE).before.size == 0
    assert [frame.identities.tolist() for frame in link_identities(frames, WIDE, sure)] == [[1], [1, 2], [2]]


@pytest.mark.parametrize(
    ("config", "joined"),
    [
        (LinkingConfig(max_gap_s=0.29), False),
        (LinkingConfig(max_gap_s=0.3), True),
        (LinkingConfig(max_gap_s=1, max_distance=0.49), False),
        (LinkingConfig(max_gap_s=1, max_distance=0.51), True),
    ],
)
def test_the_limits_in_time_and_space(config: LinkingConfig, joined: bool) -> None:
    frames = video([[(1, 0, 0.9)], [], [], [(2, 50, 0.9)]])  # 0.3 s and half a height apart
    assert link_identities(frames, config, sure)[3].identities.tolist() == [1 if joined else 2]


def test_each_identity_is_linked_once_at_the_best_score() -> None:
    frames = video([[(1, 0, 0.9), (2, 60, 0.9)], [(3, 10, 0.9), (4, 70, 0.9)]])

    def near(pairs: Sequence[tuple[Tracklet, Tracklet]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([1 - abs(a.boxes[0, 0] - b.boxes[-1, 0]) / 100 for b, a in pairs])

    linked = link_identities(frames, LinkingConfig(max_distance=5), near)
    assert linked[1].identities.tolist() == [1, 2]
    crossed = link_identities(frames, LinkingConfig(max_distance=5, min_score=0.4), lambda pairs: 1 - near(pairs))
    assert crossed[1].identities.tolist() == [2, 1]


def test_below_the_least_score_nothing_is_linked() -> None:
    frames = video([[(1, 0, 0.9)], [(2, 5, 0.9)]])
    config = LinkingConfig(min_score=0.6)
    assert link_identities(frames, config, lambda pairs: np.full(len(pairs), 0.59))[1].identities.tolist() == [2]
    assert link_identities(frames, config, lambda pairs: np.full(len(pairs), 0.61))[1].identities.tolist() == [1]


def test_predicted_rows_do_not_extend_tracklets_and_give_way_to_detections() -> None:
    frames = video([[(1, 0, 0.9)], [(1, 5, 0.0), (7, 0, 0.0)], [(1, 10, 0.0), (2, 10, 0.9)]])
    for frame in frames[1:]:
        frame.tracks.detections[frame.tracks.scores == 0] = NO_DETECTION
    linked = link_identities(frames, LinkingConfig(), sure)
    assert [frame.identities.tolist() for frame in linked] == [[1], [1, 7], [1]]
    assert lefts(linked, 1) == {0: 0, 1: 5, 2: 10}
    assert linked[2].tracks.measured.tolist() == [True]


def test_where_both_tracklets_are_predicted_one_row_stays() -> None:
    frames = video([[(1, 0, 0.9)], [(2, 5, 0.9), (1, 2, 0.0)], [(1, 4, 0.0), (2, 10, 0.0)]])
    for frame in frames[1:]:
        frame.tracks.detections[frame.tracks.scores == 0] = NO_DETECTION
    linked = link_identities(frames, LinkingConfig(), sure)
    assert [frame.identities.tolist() for frame in linked] == [[1], [1], [1]]
    assert lefts(linked, 1) == {0: 0, 1: 5, 2: 10}


def test_identities_of_different_classes_are_not_linked() -> None:
    frames = video([[(1, 0, 0.9)], [(2, 5, 0.9)]])
    frames[1].tracks.classes[:] = 3
    assert link_identities(frames, WIDE, sure)[1].identities.tolist() == [2]


def test_frames_without_tracks_are_unchanged() -> None:
    assert link_identities([], WIDE, sure) == []
    assert [len(frame.tracks) for frame in link_identities(video([[], []]), WIDE, sure)] == [0, 0]


# --- the network ------------------------------------------------------------------------------------------------------


def test_the_input_of_the_network_is_independent_of_resolution_and_frame_rate() -> None:
    """The same scene at twice the size, shifted, later, at another rate."""
    shape = Shape(span_s=1.0, points=5)
    fast, slow = np.arange(0, 1.01, 0.05), np.arange(0, 1.01, 0.25)
    one = encode(walker(0, 20, fast), walker(30, 20, fast + 2), shape)
    other = [walker(0, 20, slow), walker(30, 20, slow + 2)]
    larger = [Tracklet(item.times + 100, item.boxes * 2 + 300) for item in other]
    np.testing.assert_allclose(encode(larger[0], larger[1], shape), one, atol=1e-5)
    assert one.shape == (2, 5, 4)
    np.testing.assert_allclose(one[0, -1], 0)  # the end of the first is the origin
    np.testing.assert_allclose(one[0, :, 0], [-1, -0.75, -0.5, -0.25, 0], atol=1e-6)
    np.testing.assert_allclose(one[1, 0, :2], [1, (30 + 40 - 20) / 100], atol=1e-6)


def test_a_tracklet_of_one_box_can_be_encoded() -> None:
    shape = Shape(points=4)
    pair = encode(walker(0, 0, np.zeros(1)), walker(10, 0, np.ones(1)), shape)
    assert np.isfinite(pair).all()


def test_the_bundled_weights_score_a_continued_walk_highest() -> None:
    scorer = bundled()
    before, times = walker(0, 60, np.arange(0, 2, 1 / 30)), np.arange(2.4, 4, 1 / 30)
    goes_on, turns_back, other_person = walker(0, 60, times), walker(288, -60, times), walker(350, -200, times)
    scores = scorer([(before, goes_on), (before, turns_back), (before, other_person)])
    assert scores[0] > 0.5
    assert (scores[1:] < scores[0] - 0.2).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scorer([]).shape == (0,)


def bundled() -> AFLinkScorer:
    from importlib import resources

    return AFLinkScorer.load(Path(str(resources.files("motserve.models.bundled") / "aflink.safetensors")))


def test_the_post_processor_links_and_then_fills() -> None:
    frames = (
        [[(1, 2.0 * k, 0.9)] for k in range(15)] + [[] for _ in range(3)] + [[(2, 2.0 * k, 0.9)] for k in range(18, 30)]
    )
    config = load_config([{"linking": {"min_score": 0.3}, "interpolation": {"max_gap_s": 1}}])
    finished = PostProcessor(config)(video(frames))
    assert [frame.identities.tolist() for frame in finished] == [[1]] * 30
    assert finished[16].tracks.detections.tolist() == [INTERPOLATED]
    assert [frame.identities.tolist() for frame in PostProcessor(load_config())(video(frames))][-1] == [2]


def test_without_configuration_nothing_is_done() -> None:
    assert not PostProcessor(load_config())
    assert PostProcessor(load_config([{"linking": {}}]))
    assert PostProcessor(load_config([{"interpolation": {}}])).weights == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": "many"}, "points"),
        ({"points": 0}, "points"),
        ({"span_s": -1}, "span_s"),
        ({"channels": []}, "channels"),
        (None, "no `shape` in its metadata"),
    ],
)
def test_an_invalid_shape_is_refused(tmp_path: Path, changes: dict[str, object] | None, said: str) -> None:
    shape = {"span_s": 2.0, "points": 16, "channels": [4]}
    file = tmp_path / "weights.safetensors"
    metadata = {} if changes is None else {"shape": json.dumps({**shape, **changes})}
    save_file(AFLink(Shape(channels=(4,))).state_dict(), file, metadata)
    with pytest.raises(WeightsUnavailable, match=said):
        AFLinkScorer.load(file)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    state = AFLink(Shape(channels=(4,))).state_dict()
    state["head.1.weight"][0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors", {"shape": '{"span_s": 2.0, "points": 16, "channels": [4]}'})
    with pytest.raises(WeightsUnavailable, match="not finite"):
        AFLinkScorer.load(tmp_path / "nan.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"not weights", "other"])
def test_invalid_weights_are_refused_with_their_file_name(tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "weights.safetensors"
    if content == "other":
        save_file({"a": torch.zeros(1)}, file, {"shape": '{"span_s": 1, "points": 4, "channels": [4]}'})
    elif isinstance(content, bytes):
        file.write_bytes(content)
    config = load_config([{"linking": {"weights": str(file)}}])
    with pytest.raises(WeightsUnavailable, match=r"weights\.safetensors holds no weights of AFLink"):
        PostProcessor(config)


# --- training ---------------------------------------------------------------------------------------------------------


def write_truth(folder: Path, name: str, columns: int = 9) -> None:
    """Three people whose paths cross and who are occluded for a while."""
    lines = []
    for frame in range(1, 241):
        for person, (start, speed) in enumerate(((0, 4), (900, -4), (300, 1)), 1):
            shown = 0.0 if (frame + 37 * person) % 80 < 35 else 1.0
            row = [frame, person, start + speed * frame, 100 + 3 * person, 60, 160, 1, 1, shown]
            lines.append(",".join(map(str, row[:columns])))
    path = folder / name / "gt" / "gt.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


TINY = LinkerTraining(runs=3, validation_runs=3, epochs=2, channels=(4, 4), points=8)


def test_training_writes_weights_with_metadata_that_can_be_loaded(tmp_path: Path) -> None:
    write_truth(tmp_path / "gt", "one")
    write_truth(tmp_path / "gt", "two")
    target = tmp_path / "aflink.safetensors"
    metrics = linker.train_linker(tmp_path / "gt", TINY.model_copy(update={"validation": ("two",)}), target)
    assert 0 < metrics["same"] < metrics["pairs"]
    with safe_open(target, framework="pt") as file:
        assert file.metadata()["learned"] == '["one"]'
    assert AFLinkScorer.load(target)([(walker(0, 1, np.arange(3.0)), walker(0, 1, np.arange(5.0, 8.0)))]).shape == (1,)
    again = tmp_path / "again.safetensors"
    linker.train_linker(tmp_path / "gt", TINY.model_copy(update={"validation": ("two",)}), again)
    one, other = load_file(target), load_file(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_network_learns_from_pairs_of_trackers(tmp_path: Path) -> None:
    write_truth(tmp_path / "gt", "one")
    write_truth(tmp_path / "gt", "two")
    more = {"runs": 12, "epochs": 20, "channels": (8, 16), "batch_size": 16, "learning_rate": 0.01}
    settings = TINY.model_copy(update={"validation": ("two",), **more})
    metrics = linker.train_linker(tmp_path / "gt", settings, tmp_path / "aflink.safetensors")
    assert metrics["precision_0.5"] > 0.2 + metrics["same"] / metrics["pairs"]
    assert metrics["recall_0.5"] > 0.5


def test_ground_truth_without_visibility_cannot_be_learned_from(tmp_path: Path) -> None:
    write_truth(tmp_path / "gt", "old", columns=8)
    with pytest.raises(InvalidData, match="has no visibility column"):
        linker.train_linker(tmp_path / "gt", TINY, tmp_path / "aflink.safetensors")
    assert not (tmp_path / "aflink.safetensors").exists()
    assert (
        linker.main(["--gt", str(tmp_path / "none"), "--config", str(CONFIG), "--output", str(tmp_path / "a" / "b")])
        == 3
    )


def test_ground_truth_without_people_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gt" / "empty" / "gt" / "gt.txt"
    path.parent.mkdir(parents=True)
    path.write_text("1,1,0,0,10,20,1,7,1\n", encoding="utf-8")
    with pytest.raises(InvalidData, match="no pair of the same person"):
        linker.train_linker(tmp_path / "gt", TINY, tmp_path / "aflink.safetensors")


def test_the_shipped_settings_are_valid_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    assert "MOT17-09" not in load_linker_config(CONFIG).sequences
    file = tmp_path / "settings.yaml"
    file.write_text("epoch: 3", encoding="utf-8")
    with pytest.raises(InvalidConfig, match=r"settings\.yaml"):
        load_linker_config(file)


def test_pairs_are_those_that_trackers_did_not_join(tmp_path: Path) -> None:
    from motserve.lab.evaluation.sequences import find_truth

    write_truth(tmp_path / "gt", "one")
    pairs = collect_pairs(list(find_truth(tmp_path / "gt").values()), 2, TINY, Shape(), np.random.default_rng(0))
    assert pairs.inputs.shape == (len(pairs.same), 2, 16, 4)
    assert set(pairs.same.tolist()) == {0.0, 1.0}
    assert np.isfinite(pairs.inputs).all()
