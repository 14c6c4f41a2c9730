from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from motserve.config import ReIDConfig
from motserve.reid.linker import IdentityLinker
from motserve.types import NO_DETECTION, Link, Tracks

Person = tuple[tuple[float, float], np.ndarray]
"""Left and top of a box 40 wide and 100 high, and the embedding."""

RED, GREEN, BLUE = np.eye(4, dtype=np.float32)[:3]


def configure(**changes: Any) -> ReIDConfig:
    return ReIDConfig.model_validate(changes)


def mixed(first: np.ndarray, second: np.ndarray, distance: float) -> np.ndarray:
    """A unit vector at a cosine distance from `first`, in the plane of both."""
    return np.asarray((1 - distance) * first + np.sqrt(1 - (1 - distance) ** 2) * second, np.float32)


def tracks_of(people: Mapping[int, Person]) -> Tracks:
    n = len(people)
    corner = np.array([corner for corner, _ in people.values()], np.float32).reshape(n, 2)
    return Tracks(
        np.array(list(people), np.int64),
        np.concatenate([corner, corner + np.array([40, 100], np.float32)], axis=1),
        np.ones(n, np.float32),
        np.zeros(n, np.int64),
        np.arange(n),
    )


AT_ONCE = {"wait_s": 0, "num_embeddings": 1, "margin": 0}
"""The first embedding decides."""


class Scene:
    """Runs a linker on frames as the pipeline does, and records how many rows it embeds."""

    def __init__(self, size: tuple[int, int] | None = None, **changes: Any) -> None:
        self.linker = IdentityLinker(configure(**{"decision": AT_ONCE, "refresh_growth": 1, **changes}), size)
        self.planned: list[int] = []
        self.links: list[Link] = []

    def show(self, timestamp: float, people: Mapping[int, Person]) -> dict[int, int]:
        tracks = tracks_of(people)
        rows = self.linker.plan(tracks, timestamp)
        self.planned.append(len(rows))
        of_people = [embedding for _, embedding in people.values()]
        embeddings = np.stack([of_people[row] for row in rows]) if len(rows) else np.empty((0, 0), np.float32)
        identities = self.linker.link(tracks, timestamp, rows, embeddings)
        assert identities.shape == (len(tracks),)
        assert identities.dtype == np.int64
        self.links += [decision.link for decision in self.linker.take_decisions() if decision.link]
        return dict(zip(people, identities.tolist(), strict=True))


def show_and_leave(scene: Scene, *people: Person) -> None:
    """Tracks 1, 2, … are present for a second, then absent."""
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, dict(enumerate(people, 1)))
    scene.show(1.1, {})


def test_new_people_get_new_identities_from_one_on() -> None:
    scene = Scene()
    assert scene.show(0, {7: ((0, 0), RED), 9: ((200, 0), GREEN)}) == {7: 1, 9: 2}
    assert scene.show(0.1, {9: ((200, 0), GREEN), 3: ((400, 0), BLUE), 7: ((0, 0), RED)}) == {9: 2, 3: 3, 7: 1}
    assert scene.linker.identities == 3
    assert scene.linker.links == 0


def test_an_empty_frame_is_a_frame() -> None:
    scene = Scene()
    assert scene.show(0, {}) == {}
    assert scene.show(1, {1: ((0, 0), RED)}) == {1: 1}
    assert scene.show(2, {}) == {}


def test_a_returning_person_gets_the_previous_identity() -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED), ((300, 0), GREEN))
    assert scene.show(3, {5: ((60, 0), mixed(RED, BLUE, 0.2))}) == {5: 1}
    assert scene.linker.links == 1
    assert scene.linker.identities == 2


@pytest.mark.parametrize(
    ("corner", "embedding", "why"),
    [
        ((60, 0), mixed(RED, BLUE, 0.35), "looks different"),
        ((650, 0), RED, "would have run 6 heights in 2 s"),
    ],
)
def test_a_person_who_cannot_be_the_same_gets_a_new_identity(
    corner: tuple[float, float], embedding: np.ndarray, why: str
) -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(3, {5: (corner, embedding)}) == {5: 2}, why
    assert scene.linker.links == 0


def test_the_motion_gate_widens_with_time() -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(8, {5: ((650, 0), RED)}) == {5: 1}


def test_the_motion_gate_is_slack_and_speed_in_body_heights() -> None:
    for distance, identity in ((299, 1), (301, 2)):
        scene = Scene(gate={"slack": 1, "max_speed": 1})
        show_and_leave(scene, ((0, 0), RED))
        assert scene.show(3, {5: ((distance, 0), RED)}) == {5: identity}


def test_a_present_identity_is_never_given_to_another_track() -> None:
    scene = Scene()
    for timestamp in (0, 0.5, 1):
        scene.show(timestamp, {1: ((0, 0), RED)})
    assert scene.show(1.5, {1: ((0, 0), RED), 2: ((100, 0), RED)}) == {1: 1, 2: 2}


def test_two_people_who_return_at_once_get_the_optimal_assignment() -> None:
    first, second = RED, mixed(RED, GREEN, 0.1)
    scene = Scene()
    show_and_leave(scene, ((0, 0), first), ((60, 0), second))
    # both are nearest to the first; only giving it to the other newcomer leaves both well matched
    nearer = np.array([0.95, 0.1032, 0.2947, 0], np.float32)
    farther = np.array([0.94, -0.312, 0.138, 0], np.float32)
    cost = 1 - np.stack([nearer, farther]) @ np.stack([first, second]).T
    assert cost[0].argmin() == cost[1].argmin() == 0
    assert scene.show(2, {8: ((0, 0), nearer), 9: ((60, 0), farther)}) == {8: 2, 9: 1}
    assert scene.linker.links == 2


def test_a_forbidden_pair_never_displaces_a_good_match() -> None:
    for newcomers in ({8: ((0, 0), RED), 9: ((60, 0), BLUE)}, {9: ((60, 0), BLUE), 8: ((0, 0), RED)}):
        scene = Scene()
        show_and_leave(scene, ((0, 0), RED), ((60, 0), GREEN))
        assert scene.show(2, newcomers) == {8: 1, 9: 3}


def test_pairs_outside_the_motion_gate_never_displace_distant_matches() -> None:
    scene = Scene(max_distance=2)
    show_and_leave(scene, ((0, 0), RED), ((5000, 0), GREEN))
    unlike_red, unlike_green = mixed(RED, BLUE, 1.9), mixed(GREEN, BLUE, 1.9)
    newcomers = {7: ((0, 0), unlike_red), 8: ((5000, 0), unlike_green), 9: ((9999, 0), BLUE)}
    assert scene.show(2, newcomers) == {7: 1, 8: 2, 9: 3}


def test_a_distance_of_exactly_the_maximum_is_linked() -> None:
    scene = Scene(max_distance=1)
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(2, {5: ((0, 0), BLUE)}) == {5: 1}


def test_motion_wins_when_the_tracker_finds_the_old_track_again() -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(1.5, {2: ((30, 0), RED)}) == {2: 1}
    assert scene.linker.links == 1
    assert scene.show(1.6, {1: ((0, 0), RED), 2: ((60, 0), RED)}) == {1: 1, 2: 2}
    assert scene.linker.links == 0
    assert scene.show(1.7, {2: ((60, 0), RED), 1: ((0, 0), RED)}) == {2: 2, 1: 1}


def test_a_refuted_link_leaves_no_embeddings_of_the_other_person() -> None:
    scene = Scene(max_distance=0.2)
    show_and_leave(scene, ((0, 0), RED))
    almost_red = mixed(RED, GREEN, 0.19)
    scene.show(1.5, {2: ((30, 0), almost_red)})
    scene.show(1.6, {1: ((0, 0), RED), 2: ((60, 0), almost_red)})  # track 1 was identity 1 all along
    scene.show(1.7, {})
    new_person = mixed(RED, GREEN, 0.3)  # like the second person, not like the first
    assert scene.show(1.8, {3: ((0, 0), new_person)}) == {3: 3}


def test_the_person_of_a_refuted_link_is_embedded_again_as_soon_as_a_new_one() -> None:
    scene = Scene(refresh_interval_s=0.5, refresh_growth=2)
    show_and_leave(scene, ((0, 0), RED))
    scene.show(1.5, {2: ((30, 0), RED)})
    for timestamp in (1.6, 1.9, 2.0):
        scene.show(timestamp, {1: ((0, 0), RED), 2: ((60, 0), RED)})
    assert scene.planned[-4:] == [1, 0, 0, 1]


def test_the_track_that_was_linked_may_be_gone_when_the_old_one_is_found() -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED))
    scene.show(1.5, {2: ((30, 0), RED)})
    assert scene.show(1.6, {1: ((0, 0), RED)}) == {1: 1}
    assert scene.show(1.7, {1: ((0, 0), RED), 2: ((60, 0), RED)}) == {1: 1, 2: 2}


def test_an_identity_is_forgotten_after_memory_s() -> None:
    for latest, identity in ((6.0, 1), (6.05, 2)):
        scene = Scene(gallery={"memory_s": 5})
        show_and_leave(scene, ((0, 0), RED))
        scene.show(latest, {})
        assert scene.show(6.1, {5: ((0, 0), RED)}) == {5: identity}


def test_the_longest_absent_are_forgotten_where_there_are_too_many() -> None:
    scene = Scene(gallery={"max_identities": 1})
    people = {1: ((0, 0), RED), 2: ((60, 0), GREEN)}
    for timestamp in (0, 0.5, 1):
        scene.show(timestamp, people)
    scene.show(1.1, {2: people[2]})
    scene.show(1.2, {})
    assert scene.show(1.5, {8: people[1], 9: people[2]}) == {8: 3, 9: 2}


def test_people_who_are_present_are_never_forgotten() -> None:
    scene = Scene(gallery={"max_identities": 1, "memory_s": 1})
    people = {track: ((60.0 * track, 0.0), RED) for track in range(1, 6)}
    for timestamp in range(10):
        assert scene.show(timestamp, people) == {track: track for track in people}


def test_policy_off_embeds_nothing_and_makes_each_track_an_identity() -> None:
    scene = Scene(policy="off")
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(2, {5: ((0, 0), RED)}) == {5: 2}
    assert not any(scene.planned)


def test_policy_always_embeds_every_row() -> None:
    scene = Scene(policy="always")
    for timestamp, count in ((0.0, 3), (0.1, 1), (0.2, 0)):
        scene.show(timestamp, dict.fromkeys(range(1, count + 1), ((0, 0), RED)))
    assert scene.planned == [3, 1, 0]


def test_on_demand_embeds_at_each_refresh_and_at_births_that_could_be_returns() -> None:
    scene = Scene(refresh_interval_s=1)
    alone, other = {1: ((0, 0), RED)}, {2: ((300, 0), GREEN)}
    scene.show(0.0, alone | other)  # no embedding to compare with
    scene.show(0.9, alone | other)
    scene.show(1.0, alone | other)  # refresh of both
    scene.show(1.5, alone | other | {3: ((600, 0), BLUE)})  # a new track while no identity is absent
    scene.show(1.6, other)
    scene.show(1.7, other | {4: ((1500, 0), RED)})  # outside the motion gate of the absent identity
    scene.show(1.8, other | {5: ((20, 0), RED)})
    assert scene.planned == [0, 0, 2, 0, 0, 0, 1]


@pytest.mark.parametrize("reentry", [True, False])
def test_a_new_track_beside_a_person_who_is_present_is_not_embedded(reentry: bool) -> None:
    scene = Scene(size=(640, 480), refresh_interval_s=1, gate={"reentry": reentry})
    alone = {1: ((200.0, 100.0), RED)}
    for timestamp in (0.0, 1.0):
        scene.show(timestamp, alone)
    scene.show(1.1, alone | {2: ((260.0, 100.0), RED)})
    assert scene.planned == [0, 1, 0]


def test_crops_that_show_another_person_or_are_too_small_are_not_trusted() -> None:
    scene = Scene()
    crowded = {1: ((0.0, 0.0), RED), 2: ((20.0, 0.0), GREEN), 3: ((300.0, 0.0), BLUE)}
    scene.show(0.0, crowded)
    scene.show(0.5, crowded)
    assert scene.planned == [0, 1]
    scene = Scene(trust={"min_height": 101})
    scene.show(0.0, crowded)
    scene.show(0.5, crowded)
    assert scene.planned == [0, 0]


def test_a_person_without_an_embedding_gets_a_new_identity() -> None:
    scene = Scene()
    scene.show(0, {1: ((0, 0), RED)})
    scene.show(0.1, {})
    assert scene.show(0.2, {2: ((0, 0), RED)}) == {2: 2}


def test_a_person_who_left_without_an_embedding_delays_no_decision() -> None:
    scene = Scene(decision=WAITING)
    scene.show(0, {1: ((0, 0), RED)})
    scene.show(0.1, {})
    assert scene.show(0.2, {2: ((0, 0), RED)}) == {2: 2}
    assert scene.planned == [0, 0, 0]


def random_stream(seed: int, restore_at: int = -1, **changes: Any) -> list[dict[int, int]]:
    """Run a random crowd with tracks that are lost and found again; another linker may take over the state."""
    random = np.random.default_rng(seed)
    scene = Scene(**changes)
    embeddings = random.normal(size=(40, 16)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    present: dict[int, tuple[int, np.ndarray]] = {}
    lost: dict[int, tuple[int, np.ndarray]] = {}
    next_track, answers = 1, []
    for frame in range(200):
        if frame == restore_at:
            state, scene.linker = scene.linker.state_dict(), IdentityLinker(configure(**changes))
            scene.linker.link(tracks_of({1: ((0, 0), RED)}), 0.0, np.empty(0, np.int64), np.empty((0, 0), np.float32))
            scene.linker.load_state_dict(state)
        for track in [t for t in present if random.random() < 0.08]:
            lost[track] = present.pop(track)
        for track in [t for t in lost if random.random() < 0.05]:
            present[track] = lost.pop(track)
        for _ in range(random.integers(0, 4)):
            present[next_track] = int(random.integers(40)), random.uniform(0, 600, 2)
            next_track += 1
        for _, place in present.values():
            place += random.normal(scale=3, size=2)
        people = {t: ((float(place[0]), float(place[1])), embeddings[person]) for t, (person, place) in present.items()}
        answers.append(scene.show(frame / 10, people))
    assert scene.linker.identities == max(max(a.values(), default=0) for a in answers)
    assert scene.linker.links >= 0
    return answers


@pytest.mark.parametrize("policy", ["on_demand", "interval", "always", "off"])
@pytest.mark.parametrize("memory", [{}, {"memory_s": 0.4, "max_identities": 5}])
def test_identities_are_unique_in_every_frame_and_the_same_every_time(policy: str, memory: dict[str, float]) -> None:
    answers = random_stream(3, policy=policy, gallery={"size": 3, **memory})
    assert all(len(set(answer.values())) == len(answer) for answer in answers)
    assert answers == random_stream(3, policy=policy, gallery={"size": 3, **memory})


@pytest.mark.parametrize("cut", [0, 1, 70])
def test_a_restored_linker_has_the_same_future(cut: int) -> None:
    changes: dict[str, Any] = {"decision": WAITING, "max_distance": 0.8, "policy": "interval"}
    answers = random_stream(3, **changes)
    assert min(min(answer.values(), default=0) for answer in answers) < 0 < len(answers)
    assert random_stream(3, restore_at=cut, **changes) == answers


def test_a_state_that_is_not_of_a_linker_is_refused() -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED), ((300, 0), GREEN))
    state = scene.linker.state_dict()
    for name in state:
        with pytest.raises(ValueError, match=name.rpartition("/")[2]):
            IdentityLinker(configure()).load_state_dict({key: values for key, values in state.items() if key != name})
    longer = {name: values[:1] if name.startswith("table/") else values for name, values in state.items()}
    with pytest.raises(ValueError, match="gallery rows of 2 of 1 identities"):
        IdentityLinker(configure()).load_state_dict(longer)


@pytest.mark.parametrize("policy", ["on_demand", "always"])
def test_a_predicted_box_is_never_embedded_and_has_its_identity(policy: str) -> None:
    linker = IdentityLinker(configure(policy=policy))
    tracks = tracks_of({1: ((0, 0), RED), 2: ((300, 0), GREEN)})
    embeddings = np.stack([RED, GREEN])
    for timestamp in (0.0, 0.5):
        rows = linker.plan(tracks, timestamp)
        linker.link(tracks, timestamp, rows, embeddings[rows])
    lost = replace(tracks, detections=np.array([NO_DETECTION, 1]))
    for timestamp in (1.0, 1.5, 2.0):
        rows = linker.plan(lost, timestamp)
        assert 0 not in rows
        assert linker.link(lost, timestamp, rows, embeddings[rows]).tolist() == [1, 2]


def test_a_person_who_returns_while_the_predicted_box_is_reported_gets_the_identity() -> None:
    linker = IdentityLinker(configure(decision=AT_ONCE))
    for timestamp in (0.0, 0.5, 1.0):
        tracks = tracks_of({1: ((0, 0), RED)})
        rows = linker.plan(tracks, timestamp)
        linker.link(tracks, timestamp, rows, np.stack([RED])[rows])
    both = replace(tracks_of({1: ((10, 0), RED), 2: ((90, 0), RED)}), detections=np.array([NO_DETECTION, 0]))
    for timestamp in (1.5, 2.0):
        rows = linker.plan(both, timestamp)
        assert linker.link(both, timestamp, rows, np.stack([RED, RED])[rows]).tolist() == [0, 1]
    assert linker.links == 1


# --- decisions --------------------------------------------------------------------------------------------------------

WAITING = {"wait_s": 1, "num_embeddings": 3, "interval_s": 0.2, "margin": 0}


def test_a_return_is_decided_when_enough_embeddings_agree() -> None:
    scene = Scene(decision=WAITING)
    show_and_leave(scene, ((0, 0), RED))
    answers = [scene.show(3 + step / 10, {5: ((0, 0), RED)})[5] for step in range(6)]
    assert answers[:4] == [-2] * 4  # the second person, undecided
    assert answers[4:] == [1, 1]
    assert scene.planned[-6:] == [1, 0, 1, 0, 1, 0]
    (link,) = scene.links
    assert (link.track, link.identity, link.previous_track) == (5, 1, 1)
    assert link.gap_s == pytest.approx(2)
    assert link.distance == pytest.approx(0, abs=1e-6)
    assert link.moved == 0


def test_a_link_has_its_distances_in_space_and_appearance() -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED))
    scene.show(3, {5: ((150, 0), mixed(RED, BLUE, 0.2))})
    (link,) = scene.links
    assert link.distance == pytest.approx(0.2, abs=1e-6)
    assert link.moved == pytest.approx(1.5)


def test_distances_of_embeddings_are_averaged() -> None:
    scene = Scene(decision=WAITING)
    show_and_leave(scene, ((0, 0), RED))
    for step, distance in enumerate((0.1, 0.5, 0.5)):
        answer = scene.show(3 + step * 0.2, {5: ((0, 0), mixed(RED, BLUE, distance))})
    assert answer == {5: 2}, "the first embedding alone would have linked"


def test_a_new_track_outside_every_motion_gate_is_decided_at_once() -> None:
    scene = Scene(decision=WAITING)
    assert scene.show(0, {1: ((0, 0), RED)}) == {1: 1}
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(1.2, {5: ((2000, 0), RED)}) == {5: 2}


def test_a_decision_is_made_after_the_longest_wait() -> None:
    for embedding, identity in ((RED, 1), (BLUE, 2)):
        scene = Scene(decision=WAITING | {"num_embeddings": 9})
        show_and_leave(scene, ((0, 0), RED))
        answers = [scene.show(3 + step / 4, {5: ((0, 0), embedding)})[5] for step in range(5)]
        assert answers == [-2, -2, -2, -2, identity]


def test_a_person_without_a_good_crop_in_time_gets_a_new_identity() -> None:
    scene = Scene(decision=WAITING)
    show_and_leave(scene, ((0, 0), RED))
    crowd = {5: ((0.0, 0.0), RED), 6: ((10.0, 0.0), RED)}
    answers = [scene.show(3 + step / 4, crowd) for step in range(5)]
    assert answers[3] == {5: -2, 6: -3}
    assert answers[4] == {5: 2, 6: 3}


def test_the_end_of_the_video_decides_all_identities() -> None:
    scene = Scene(decision=WAITING)
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(3, {5: ((0, 0), RED), 6: ((100, 0), BLUE)}) == {5: -2, 6: -3}
    scene.linker.finish(3)
    assert {d.provisional: d.identity for d in scene.linker.take_decisions()} == {-2: 1, -3: 2}


def test_a_track_that_ends_undecided_is_decided_later() -> None:
    scene = Scene(decision=WAITING)
    show_and_leave(scene, ((0, 0), RED))
    assert scene.show(3, {5: ((0, 0), RED)}) == {5: -2}
    for step in range(1, 11):
        scene.show(3 + step / 10, {})
    assert [link.track for link in scene.links] == [5]
    assert scene.show(4.2, {7: ((0, 0), RED)}) == {7: -3}


def test_an_identity_whose_track_is_found_again_is_not_given_to_another() -> None:
    scene = Scene(decision=WAITING)
    show_and_leave(scene, ((0, 0), RED))
    both = {1: ((0.0, 0.0), RED), 5: ((100.0, 0.0), RED)}
    assert scene.show(1.2, {5: both[5]}) == {5: -2}
    assert scene.show(1.3, both) == {1: 1, 5: 2}


def test_a_similar_person_in_the_picture_prevents_a_link() -> None:
    for margin, identity in ((0.0, 1), (0.05, 3)):
        scene = Scene(decision=AT_ONCE | {"margin": margin})
        twin = mixed(RED, GREEN, 0.12)
        people = {1: ((0.0, 0.0), RED), 2: ((300.0, 0.0), twin)}
        for timestamp in (0.0, 0.5, 1.0):
            scene.show(timestamp, people)
        scene.show(1.1, {2: people[2]})
        newcomer = mixed(RED, GREEN, 0.02)  # at 0.04 from the twin
        assert scene.show(1.5, {2: people[2], 5: ((0, 0), newcomer)})[5] == identity


def test_without_a_margin_an_equally_similar_person_in_the_picture_prevents_no_link() -> None:
    scene = Scene()
    people = {1: ((0.0, 0.0), RED), 2: ((300.0, 0.0), RED)}
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, people)
    scene.show(1.1, {2: people[2]})
    assert scene.show(1.5, {2: people[2], 5: ((0, 0), RED)}) == {2: 2, 5: 1}


def test_an_ambiguous_return_between_two_different_people_is_not_linked() -> None:
    other = mixed(RED, GREEN, 0.35)
    between = mixed(RED, GREEN, 0.085)  # at 0.09 from the other
    for margin, identity in ((0.0, 1), (0.05, 3)):
        scene = Scene(decision=AT_ONCE | {"margin": margin})
        show_and_leave(scene, ((0, 0), RED), ((300, 0), other))
        assert scene.show(2, {5: ((0, 0), between)}) == {5: identity}


def test_an_ambiguous_return_is_embedded_no_more_often_than_a_clear_one() -> None:
    decision = {"wait_s": 1, "num_embeddings": 2, "interval_s": 0.2, "margin": 0.05}
    scene = Scene(decision=decision)
    show_and_leave(scene, ((0, 0), RED), ((300, 0), mixed(RED, GREEN, 0.35)))
    answers = [scene.show(2 + step / 10, {5: ((0, 0), mixed(RED, GREEN, 0.085))})[5] for step in range(11)]
    assert answers == [-3] * 10 + [3]
    assert scene.planned[-11:] == [1, 0, 1] + [0] * 8


def test_a_person_with_two_identities_is_no_rival_of_themselves() -> None:
    scene = Scene(decision=AT_ONCE | {"margin": 0.05})
    show_and_leave(scene, ((0, 0), RED), ((300, 0), mixed(RED, GREEN, 0.02)))
    assert scene.show(2, {5: ((0, 0), RED)}) == {5: 1}


def test_rivals_who_return_together_both_get_their_identity() -> None:
    other = mixed(RED, GREEN, 0.35)
    scene = Scene(decision=AT_ONCE | {"margin": 0.4})
    show_and_leave(scene, ((0, 0), RED), ((100, 0), other))
    assert scene.show(2, {5: ((0, 0), RED), 6: ((100, 0), other)}) == {5: 1, 6: 2}


# --- the gallery ------------------------------------------------------------------------------------------------------


def test_boxes_cut_off_by_the_border_are_not_embedded() -> None:
    scene = Scene(size=(640, 480))
    for timestamp in (0.0, 0.6, 1.2):
        scene.show(timestamp, {1: ((0, 100), RED), 2: ((600, 100), GREEN), 3: ((300, 380), BLUE), 4: ((300, 0), RED)})
    assert not any(scene.planned)
    scene.show(1.3, {1: ((4, 100), RED)})
    assert scene.planned[-1] == 1


def test_detections_of_low_confidence_are_not_embedded() -> None:
    linker = IdentityLinker(configure())
    tracks = replace(tracks_of({1: ((0, 0), RED), 2: ((300, 0), GREEN)}), scores=np.array([0.2, 0.9], np.float32))
    linker.link(tracks, 0.0, np.empty(0, np.int64), np.empty((0, 0), np.float32))
    assert linker.plan(tracks, 1.0).tolist() == [1]


def test_on_demand_embeds_at_growing_intervals_and_interval_at_constant_ones() -> None:
    times = {}
    for policy in ("on_demand", "interval"):
        scene = Scene(policy=policy, refresh_interval_s=0.5, refresh_growth=2, refresh_max_s=4)
        for step in range(150):
            scene.show(step / 10, {1: ((0, 0), RED)})
        times[policy] = [step / 10 for step, count in enumerate(scene.planned) if count]
    assert times["on_demand"] == [0.5, 1.5, 3.5, 7.5, 11.5]
    assert times["interval"] == [step / 2 for step in range(30)]


def test_an_occluded_person_is_embedded_at_the_first_good_crop() -> None:
    scene = Scene(refresh_growth=10, refresh_max_s=100)
    alone, behind = {1: ((0.0, 0.0), RED)}, {1: ((0.0, 0.0), RED), 2: ((10.0, 0.0), GREEN)}
    for timestamp, people in ((0.0, alone), (0.5, alone), (0.6, alone), (0.7, behind), (0.8, alone), (0.9, alone)):
        scene.show(timestamp, people)
    assert scene.planned == [0, 1, 0, 0, 1, 0]


def swapped(scene: Scene, embeddings: list[np.ndarray]) -> Scene:
    """Track 1 is a person in red and later, after an ID switch, has `embeddings`; then it is absent."""
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, {1: ((0, 0), RED)})
    for step, embedding in enumerate(embeddings):
        scene.show(1.5 + step / 2, {1: ((0, 0), embedding)})
    scene.show(1.6 + len(embeddings) / 2, {})
    return scene


def test_after_an_id_switch_only_embeddings_of_the_present_person_remain() -> None:
    for embedding, identity in ((BLUE, 1), (RED, 2)):
        assert swapped(Scene(), [BLUE, BLUE]).show(4, {5: ((0, 0), embedding)}) == {5: identity}


def test_a_single_contradicting_embedding_is_ignored() -> None:
    for embedding, identity in ((BLUE, 2), (RED, 1)):
        assert swapped(Scene(), [BLUE, RED]).show(4, {5: ((0, 0), embedding)}) == {5: identity}


def test_a_single_contradicting_embedding_after_a_link_is_ignored() -> None:
    scene = Scene()
    show_and_leave(scene, ((0, 0), RED))
    for timestamp, embedding in ((1.5, RED), (2.0, BLUE), (2.1, RED)):
        assert scene.show(timestamp, {2: ((30, 0), embedding)}) == {2: 1}
    assert scene.planned[-3:] == [1, 1, 1]
    scene.show(2.2, {})
    assert scene.show(3, {5: ((0, 0), BLUE)}) == {5: 2}


def test_after_an_id_switch_to_a_known_person_only_embeddings_of_that_person_remain() -> None:
    """Far from its own embeddings, but below the contradiction distance: another person is nearer."""
    other = mixed(RED, GREEN, 0.4)
    scene = Scene()
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, {1: ((0, 0), RED), 2: ((300, 0), other)})
    for timestamp in (1.5, 2.0):
        scene.show(timestamp, {1: ((0, 0), other)})
    scene.show(2.1, {})
    assert scene.show(4, {5: ((0, 0), RED)}) == {5: 3}


def test_an_occlusion_before_the_decision_is_remembered_after_it() -> None:
    decision = {"wait_s": 1, "num_embeddings": 3, "interval_s": 2, "margin": 0}
    scene = Scene(policy="interval", decision=decision, refresh_interval_s=10, refresh_max_s=10)
    show_and_leave(scene, ((0, 0), RED))
    alone, behind = {5: ((0.0, 0.0), RED)}, {5: ((0.0, 0.0), RED), 6: ((10.0, 0.0), GREEN)}
    for timestamp, people in ((3.0, alone), (3.1, behind), (3.2, alone)):
        assert scene.show(timestamp, people)[5] == -2
    assert scene.show(4.0, alone) == {5: 1}
    scene.show(4.1, alone)
    assert scene.planned[-5:] == [1, 0, 0, 0, 1]


def test_another_view_of_a_person_contradicts_nothing_unless_another_person_is_nearer() -> None:
    view = mixed(RED, GREEN, 0.35)  # beyond the distance of a link
    assert swapped(Scene(), [view, RED, BLUE, RED]).show(6, {5: ((0, 0), view)}) == {5: 1}


def test_a_person_who_is_nearer_by_less_than_the_margin_contradicts_nothing() -> None:
    view = mixed(RED, GREEN, 0.4)
    other = {2: ((300.0, 0.0), mixed(view, BLUE, 0.35))}
    for margin, identity in ((0.1, 1), (0.0, 3)):
        scene = Scene(decision=AT_ONCE | {"margin": margin})
        for timestamp in (0.0, 0.5, 1.0):
            scene.show(timestamp, {1: ((0, 0), RED)} | other)
        for timestamp in (1.5, 2.0):
            scene.show(timestamp, {1: ((0, 0), view)})
        scene.show(2.1, {})
        assert scene.show(4, {5: ((0, 0), RED)}) == {5: identity}


def test_an_embedding_at_the_distance_of_a_contradiction_is_none() -> None:
    for embedding in (RED, BLUE):  # at a distance of 1
        scene = swapped(Scene(gallery={"contradiction": 1.0}), [BLUE, BLUE])
        assert scene.show(4, {5: ((0, 0), embedding)}) == {5: 1}


def test_policy_always_trusts_the_same_crops_as_on_demand() -> None:
    scene = Scene(policy="always")
    crowd = {1: ((0.0, 0.0), RED), 2: ((10.0, 0.0), GREEN)}
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, crowd)
    scene.show(1.1, {})
    assert scene.planned == [2, 2, 2, 0]
    assert scene.show(1.5, {5: ((0, 0), RED)}) == {5: 3}


def test_without_reentry_only_people_lost_inside_the_picture_get_their_identity_back() -> None:
    for reentry, identity in ((True, 1), (False, 2)):
        scene = Scene(size=(640, 480), gate={"reentry": reentry})
        for timestamp in (0.0, 0.5, 1.0):
            scene.show(timestamp, {1: ((200, 100), RED)})
        scene.show(1.5, {1: ((5, 100), RED)})
        scene.show(1.6, {})
        assert scene.show(2, {5: ((20, 100), RED)}) == {5: identity}
    scene = Scene(size=(640, 480), gate={"reentry": False})
    show_and_leave(scene, ((200, 100), RED))
    assert scene.show(2, {5: ((220, 100), RED)}) == {5: 1}


def test_very_long_tracks_do_not_overflow_their_interval() -> None:
    scene = Scene(refresh_interval_s=0.01, refresh_growth=10, refresh_max_s=0.01)
    with np.errstate(all="raise"):
        for step in range(800):
            scene.show(step / 50, {1: ((0, 0), RED)})
    assert sum(scene.planned) == 799
