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
    return ((1 - distance) * first + np.sqrt(1 - (1 - distance) ** 2) * second).astype(np.float32)


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
"""The first look decides."""


class Scene:
    """Shows frames to a linker as the pipeline does, and notes which rows it wanted embedded."""

    def __init__(self, size: tuple[int, int] | None = None, **changes: Any) -> None:
        self.linker = IdentityLinker(configure(**{"decision": AT_ONCE, "refresh_growth": 1, **changes}), size)
        self.planned: list[int] = []
        self.links: list[Link] = []

    def show(self, timestamp: float, people: Mapping[int, Person]) -> dict[int, int]:
        tracks = tracks_of(people)
        rows = self.linker.plan(tracks, timestamp)
        self.planned.append(len(rows))
        looks = [look for _, look in people.values()]
        embeddings = np.stack([looks[row] for row in rows]) if len(rows) else np.empty((0, 0), np.float32)
        identities = self.linker.link(tracks, timestamp, rows, embeddings)
        assert identities.shape == (len(tracks),)
        assert identities.dtype == np.int64
        self.links += [decision.link for decision in self.linker.decisions() if decision.link]
        return dict(zip(people, identities.tolist(), strict=True))


def leave(scene: Scene, *people: Person) -> None:
    """Tracks 1, 2, … are seen for a second, then gone."""
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


def test_who_comes_back_is_recognised() -> None:
    scene = Scene()
    leave(scene, ((0, 0), RED), ((300, 0), GREEN))
    assert scene.show(3, {5: ((60, 0), mixed(RED, BLUE, 0.2))}) == {5: 1}
    assert scene.linker.links == 1
    assert scene.linker.identities == 2


@pytest.mark.parametrize(
    ("corner", "look", "why"),
    [
        ((60, 0), mixed(RED, BLUE, 0.35), "looks different"),
        ((650, 0), RED, "would have run 6 heights in 2 s"),
    ],
)
def test_who_cannot_be_the_same_gets_a_new_identity(corner: tuple[float, float], look: np.ndarray, why: str) -> None:
    scene = Scene()
    leave(scene, ((0, 0), RED))
    assert scene.show(3, {5: (corner, look)}) == {5: 2}, why
    assert scene.linker.links == 0


def test_time_makes_a_long_way_plausible() -> None:
    scene = Scene()
    leave(scene, ((0, 0), RED))
    assert scene.show(8, {5: ((650, 0), RED)}) == {5: 1}


def test_the_gate_is_slack_and_speed_in_body_heights() -> None:
    for distance, identity in ((299, 1), (301, 2)):
        scene = Scene(gate={"slack": 1, "max_speed": 1})
        leave(scene, ((0, 0), RED))
        assert scene.show(3, {5: ((distance, 0), RED)}) == {5: identity}


def test_an_identity_that_is_present_is_never_given() -> None:
    scene = Scene()
    for timestamp in (0, 0.5, 1):
        scene.show(timestamp, {1: ((0, 0), RED)})
    assert scene.show(1.5, {1: ((0, 0), RED), 2: ((100, 0), RED)}) == {1: 1, 2: 2}


def test_two_who_return_at_once_get_the_assignment_that_fits_both() -> None:
    first, second = RED, mixed(RED, GREEN, 0.1)
    scene = Scene()
    leave(scene, ((0, 0), first), ((60, 0), second))
    # both are nearest to the first; only giving it to the other newcomer leaves both well matched
    nearer = np.array([0.95, 0.1032, 0.2947, 0], np.float32)
    farther = np.array([0.94, -0.312, 0.138, 0], np.float32)
    cost = 1 - np.stack([nearer, farther]) @ np.stack([first, second]).T
    assert cost[0].argmin() == cost[1].argmin() == 0
    assert scene.show(2, {8: ((0, 0), nearer), 9: ((60, 0), farther)}) == {8: 2, 9: 1}


def test_one_good_match_is_not_given_up_for_a_forbidden_one() -> None:
    scene = Scene()
    leave(scene, ((0, 0), RED), ((60, 0), GREEN))
    assert scene.show(2, {8: ((0, 0), RED), 9: ((60, 0), BLUE)}) == {8: 1, 9: 3}


def test_motion_wins_when_the_tracker_finds_the_old_track_again() -> None:
    scene = Scene()
    leave(scene, ((0, 0), RED))
    assert scene.show(1.5, {2: ((30, 0), RED)}) == {2: 1}
    assert scene.linker.links == 1
    assert scene.show(1.6, {1: ((0, 0), RED), 2: ((60, 0), RED)}) == {1: 1, 2: 2}
    assert scene.linker.links == 0
    assert scene.show(1.7, {2: ((60, 0), RED), 1: ((0, 0), RED)}) == {2: 2, 1: 1}


def test_a_refuted_link_leaves_no_looks_of_the_other_person_behind() -> None:
    scene = Scene(max_distance=0.2)
    leave(scene, ((0, 0), RED))
    almost_red = mixed(RED, GREEN, 0.19)
    scene.show(1.5, {2: ((30, 0), almost_red)})
    scene.show(1.6, {1: ((0, 0), RED), 2: ((60, 0), almost_red)})  # track 1 was identity 1 all along
    scene.show(1.7, {})
    stranger = mixed(RED, GREEN, 0.3)  # like the second person, not like the first
    assert scene.show(1.8, {3: ((0, 0), stranger)}) == {3: 3}


def test_the_track_that_was_linked_may_be_gone_when_the_old_one_is_found() -> None:
    scene = Scene()
    leave(scene, ((0, 0), RED))
    scene.show(1.5, {2: ((30, 0), RED)})
    assert scene.show(1.6, {1: ((0, 0), RED)}) == {1: 1}
    assert scene.show(1.7, {1: ((0, 0), RED), 2: ((60, 0), RED)}) == {1: 1, 2: 2}


def test_memory_ends_after_its_time() -> None:
    for timestamp, identity in ((5.9, 1), (6.1, 2)):
        scene = Scene(gallery={"memory_s": 5})
        leave(scene, ((0, 0), RED))
        scene.show(timestamp - 0.05, {})
        assert scene.show(timestamp, {5: ((0, 0), RED)}) == {5: identity}


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
    leave(scene, ((0, 0), RED))
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
    scene.show(0.0, alone | other)  # nobody to compare with
    scene.show(0.9, alone | other)
    scene.show(1.0, alone | other)  # refresh of both
    scene.show(1.5, alone | other | {3: ((600, 0), BLUE)})  # a birth while nobody is away
    scene.show(1.6, other)
    scene.show(1.7, other | {4: ((1500, 0), RED)})  # too far from who is away
    scene.show(1.8, other | {5: ((20, 0), RED)})
    assert scene.planned == [0, 0, 2, 0, 0, 0, 1]


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


def test_who_was_never_embedded_cannot_be_recognised() -> None:
    scene = Scene()
    scene.show(0, {1: ((0, 0), RED)})
    scene.show(0.1, {})
    assert scene.show(0.2, {2: ((0, 0), RED)}) == {2: 2}


def random_stream(seed: int, **changes: Any) -> list[dict[int, int]]:
    """A crowd that comes and goes, with tracks that are lost and found again."""
    random = np.random.default_rng(seed)
    scene = Scene(**changes)
    looks = random.normal(size=(40, 16)).astype(np.float32)
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    present: dict[int, tuple[int, np.ndarray]] = {}
    lost: dict[int, tuple[int, np.ndarray]] = {}
    following, answers = 1, []
    for frame in range(200):
        for track in [t for t in present if random.random() < 0.08]:
            lost[track] = present.pop(track)
        for track in [t for t in lost if random.random() < 0.05]:
            present[track] = lost.pop(track)
        for _ in range(random.integers(0, 4)):
            present[following] = int(random.integers(40)), random.uniform(0, 600, 2)
            following += 1
        for _, place in present.values():
            place += random.normal(scale=3, size=2)
        people = {t: ((float(place[0]), float(place[1])), looks[who]) for t, (who, place) in present.items()}
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


@pytest.mark.parametrize("policy", ["on_demand", "always"])
def test_a_predicted_box_is_never_looked_at_and_has_its_identity(policy: str) -> None:
    linker = IdentityLinker(configure(policy=policy))
    there = tracks_of({1: ((0, 0), RED), 2: ((300, 0), GREEN)})
    embeddings = np.stack([RED, GREEN])
    for timestamp in (0.0, 0.5):
        rows = linker.plan(there, timestamp)
        linker.link(there, timestamp, rows, embeddings[rows])
    lost = replace(there, detections=np.array([NO_DETECTION, 1]))
    for timestamp in (1.0, 1.5, 2.0):
        rows = linker.plan(lost, timestamp)
        assert 0 not in rows
        assert linker.link(lost, timestamp, rows, embeddings[rows]).tolist() == [1, 2]


def test_who_comes_back_while_a_predicted_box_is_still_shown_is_recognised() -> None:
    linker = IdentityLinker(configure(decision=AT_ONCE))
    for timestamp in (0.0, 0.5, 1.0):
        there = tracks_of({1: ((0, 0), RED)})
        rows = linker.plan(there, timestamp)
        linker.link(there, timestamp, rows, np.stack([RED])[rows])
    both = replace(tracks_of({1: ((10, 0), RED), 2: ((90, 0), RED)}), detections=np.array([NO_DETECTION, 0]))
    for timestamp in (1.5, 2.0):
        rows = linker.plan(both, timestamp)
        assert linker.link(both, timestamp, rows, np.stack([RED, RED])[rows]).tolist() == [0, 1]
    assert linker.links == 1


# --- decisions --------------------------------------------------------------------------------------------------------

WAITING = {"wait_s": 1, "num_embeddings": 3, "interval_s": 0.2, "margin": 0}


def test_a_return_is_decided_when_enough_looks_agree() -> None:
    scene = Scene(decision=WAITING)
    leave(scene, ((0, 0), RED))
    answers = [scene.show(3 + step / 10, {5: ((0, 0), RED)})[5] for step in range(6)]
    assert answers[:4] == [-2] * 4  # the second person, undecided
    assert answers[4:] == [1, 1]
    assert scene.planned[-6:] == [1, 0, 1, 0, 1, 0]
    (link,) = scene.links
    assert (link.track, link.identity, link.previous_track) == (5, 1, 1)
    assert link.gap_s == pytest.approx(2)
    assert link.distance == pytest.approx(0, abs=1e-6)
    assert link.moved == 0


def test_a_link_says_how_far_and_how_alike() -> None:
    scene = Scene()
    leave(scene, ((0, 0), RED))
    scene.show(3, {5: ((150, 0), mixed(RED, BLUE, 0.2))})
    (link,) = scene.links
    assert link.distance == pytest.approx(0.2, abs=1e-6)
    assert link.moved == pytest.approx(1.5)


def test_looks_are_averaged() -> None:
    scene = Scene(decision=WAITING)
    leave(scene, ((0, 0), RED))
    for step, distance in enumerate((0.1, 0.5, 0.5)):
        answer = scene.show(3 + step * 0.2, {5: ((0, 0), mixed(RED, BLUE, distance))})
    assert answer == {5: 2}, "a first look alone would have linked"


def test_nobody_waits_where_nobody_can_have_come_from() -> None:
    scene = Scene(decision=WAITING)
    assert scene.show(0, {1: ((0, 0), RED)}) == {1: 1}
    leave(scene, ((0, 0), RED))
    assert scene.show(1.2, {5: ((2000, 0), RED)}) == {5: 2}


def test_waiting_ends_after_its_time_with_what_was_seen() -> None:
    for look, identity in ((RED, 1), (BLUE, 2)):
        scene = Scene(decision=WAITING | {"num_embeddings": 9})
        leave(scene, ((0, 0), RED))
        answers = [scene.show(3 + step / 4, {5: ((0, 0), look)})[5] for step in range(5)]
        assert answers == [-2, -2, -2, -2, identity]


def test_who_was_not_seen_well_in_time_is_somebody_new() -> None:
    scene = Scene(decision=WAITING)
    leave(scene, ((0, 0), RED))
    crowd = {5: ((0.0, 0.0), RED), 6: ((10.0, 0.0), RED)}
    answers = [scene.show(3 + step / 4, crowd) for step in range(5)]
    assert answers[3] == {5: -2, 6: -3}
    assert answers[4] == {5: 2, 6: 3}


def test_the_end_of_the_video_ends_all_waiting() -> None:
    scene = Scene(decision=WAITING)
    leave(scene, ((0, 0), RED))
    assert scene.show(3, {5: ((0, 0), RED), 6: ((100, 0), BLUE)}) == {5: -2, 6: -3}
    scene.linker.finish(3)
    assert {d.provisional: d.identity for d in scene.linker.decisions()} == {-2: 1, -3: 2}


def test_a_track_that_ends_undecided_is_decided_all_the_same() -> None:
    scene = Scene(decision=WAITING)
    leave(scene, ((0, 0), RED))
    assert scene.show(3, {5: ((0, 0), RED)}) == {5: -2}
    for step in range(1, 11):
        scene.show(3 + step / 10, {})
    assert [link.track for link in scene.links] == [5]
    assert scene.show(4.2, {7: ((0, 0), RED)}) == {7: -3}


def test_an_identity_that_the_tracker_finds_again_meanwhile_is_not_given() -> None:
    scene = Scene(decision=WAITING)
    leave(scene, ((0, 0), RED))
    both = {1: ((0.0, 0.0), RED), 5: ((100.0, 0.0), RED)}
    assert scene.show(1.2, {5: both[5]}) == {5: -2}
    assert scene.show(1.3, both) == {1: 1, 5: 2}


def test_somebody_in_the_picture_who_looks_as_much_alike_forbids_a_link() -> None:
    for margin, identity in ((0.0, 1), (0.05, 3)):
        scene = Scene(decision=AT_ONCE | {"margin": margin})
        twin = mixed(RED, GREEN, 0.12)
        people = {1: ((0.0, 0.0), RED), 2: ((300.0, 0.0), twin)}
        for timestamp in (0.0, 0.5, 1.0):
            scene.show(timestamp, people)
        scene.show(1.1, {2: people[2]})
        newcomer = mixed(RED, GREEN, 0.02)  # at 0.04 from the twin
        assert scene.show(1.5, {2: people[2], 5: ((0, 0), newcomer)})[5] == identity


def test_between_two_who_are_away_and_unlike_nobody_is_chosen_in_doubt() -> None:
    other = mixed(RED, GREEN, 0.35)
    between = mixed(RED, GREEN, 0.085)  # at 0.09 from the other
    for margin, identity in ((0.0, 1), (0.05, 3)):
        scene = Scene(decision=AT_ONCE | {"margin": margin})
        leave(scene, ((0, 0), RED), ((300, 0), other))
        assert scene.show(2, {5: ((0, 0), between)}) == {5: identity}


def test_one_person_who_is_remembered_twice_is_no_rival_of_themselves() -> None:
    scene = Scene(decision=AT_ONCE | {"margin": 0.05})
    leave(scene, ((0, 0), RED), ((300, 0), mixed(RED, GREEN, 0.02)))
    assert scene.show(2, {5: ((0, 0), RED)}) == {5: 1}


def test_rivals_who_come_back_together_both_get_their_identity() -> None:
    other = mixed(RED, GREEN, 0.35)
    scene = Scene(decision=AT_ONCE | {"margin": 0.4})
    leave(scene, ((0, 0), RED), ((100, 0), other))
    assert scene.show(2, {5: ((0, 0), RED), 6: ((100, 0), other)}) == {5: 1, 6: 2}


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_who_is_cut_off_by_the_border_is_not_looked_at() -> None:
    scene = Scene(size=(640, 480))
    for timestamp in (0.0, 0.6, 1.2):
        scene.show(timestamp, {1: ((0, 100), RED), 2: ((600, 100), GREEN), 3: ((300, 380), BLUE), 4: ((300, 0), RED)})
    assert not any(scene.planned)
    scene.show(1.3, {1: ((4, 100), RED)})
    assert scene.planned[-1] == 1


def test_unsure_detections_are_not_looked_at() -> None:
    linker = IdentityLinker(configure())
    there = replace(tracks_of({1: ((0, 0), RED), 2: ((300, 0), GREEN)}), scores=np.array([0.2, 0.9], np.float32))
    linker.link(there, 0.0, np.empty(0, np.int64), np.empty((0, 0), np.float32))
    assert linker.plan(there, 1.0).tolist() == [1]


def test_on_demand_looks_ever_more_rarely_and_interval_does_not() -> None:
    times = {}
    for policy in ("on_demand", "interval"):
        scene = Scene(policy=policy, refresh_interval_s=0.5, refresh_growth=2, refresh_max_s=4)
        for step in range(150):
            scene.show(step / 10, {1: ((0, 0), RED)})
        times[policy] = [step / 10 for step, count in enumerate(scene.planned) if count]
    assert times["on_demand"] == [0.5, 1.5, 3.5, 7.5, 11.5]
    assert times["interval"] == [step / 2 for step in range(30)]


def test_who_was_hidden_is_looked_at_as_soon_as_they_can_be_seen() -> None:
    scene = Scene(refresh_growth=10, refresh_max_s=100)
    alone, behind = {1: ((0.0, 0.0), RED)}, {1: ((0.0, 0.0), RED), 2: ((10.0, 0.0), GREEN)}
    for timestamp, people in ((0.0, alone), (0.5, alone), (0.6, alone), (0.7, behind), (0.8, alone), (0.9, alone)):
        scene.show(timestamp, people)
    assert scene.planned == [0, 1, 0, 0, 1, 0]


def swapped(scene: Scene, looks: list[np.ndarray]) -> Scene:
    """Track 1 shows somebody in red and later, by a mistake of the tracker, what `looks` say; then it is gone."""
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, {1: ((0, 0), RED)})
    for step, look in enumerate(looks):
        scene.show(1.5 + step / 2, {1: ((0, 0), look)})
    scene.show(1.6 + len(looks) / 2, {})
    return scene


def test_a_track_that_shows_somebody_else_remembers_only_whom_it_shows_now() -> None:
    for look, identity in ((BLUE, 1), (RED, 2)):
        assert swapped(Scene(), [BLUE, BLUE]).show(4, {5: ((0, 0), look)}) == {5: identity}


def test_one_look_that_contradicts_all_others_is_a_bad_crop() -> None:
    for look, identity in ((BLUE, 2), (RED, 1)):
        assert swapped(Scene(), [BLUE, RED]).show(4, {5: ((0, 0), look)}) == {5: identity}


def test_a_track_that_shows_another_who_is_known_remembers_only_whom_it_shows_now() -> None:
    """Far from its own memory, but not so far that this alone would tell: somebody else is nearer."""
    other = mixed(RED, GREEN, 0.4)
    scene = Scene()
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, {1: ((0, 0), RED), 2: ((300, 0), other)})
    for timestamp in (1.5, 2.0):
        scene.show(timestamp, {1: ((0, 0), other)})
    scene.show(2.1, {})
    assert scene.show(4, {5: ((0, 0), RED)}) == {5: 3}


def test_always_trusts_no_other_crops_than_on_demand() -> None:
    scene = Scene(policy="always")
    crowd = {1: ((0.0, 0.0), RED), 2: ((10.0, 0.0), GREEN)}
    for timestamp in (0.0, 0.5, 1.0):
        scene.show(timestamp, crowd)
    scene.show(1.1, {})
    assert scene.planned == [2, 2, 2, 0]
    assert scene.show(1.5, {5: ((0, 0), RED)}) == {5: 3}


def test_without_reentry_only_those_who_vanished_inside_the_picture_get_their_identity_back() -> None:
    for reentry, identity in ((True, 1), (False, 2)):
        scene = Scene(size=(640, 480), gate={"reentry": reentry})
        for timestamp in (0.0, 0.5, 1.0):
            scene.show(timestamp, {1: ((200, 100), RED)})
        scene.show(1.5, {1: ((5, 100), RED)})
        scene.show(1.6, {})
        assert scene.show(2, {5: ((20, 100), RED)}) == {5: identity}
    scene = Scene(size=(640, 480), gate={"reentry": False})
    leave(scene, ((200, 100), RED))
    assert scene.show(2, {5: ((220, 100), RED)}) == {5: 1}


def test_very_long_tracks_do_not_overflow_their_interval() -> None:
    scene = Scene(refresh_interval_s=0.01, refresh_growth=10, refresh_max_s=0.01)
    with np.errstate(all="raise"):
        for step in range(800):
            scene.show(step / 50, {1: ((0, 0), RED)})
    assert sum(scene.planned) == 799
