from __future__ import annotations

import numpy as np

from motserve.pipeline.frame_buffer import FrameBuffer, ResolvedFrame
from motserve.reid.linker import Decision
from motserve.types import EmbeddedCrops, Link, TrackedFrame, Tracks


def frame(index: int, **identities: int) -> TrackedFrame:
    """A frame of tracks named `t1`, `t2`, … with their identities."""
    n = len(identities)
    ids = np.array([int(name[1:]) for name in identities], np.int64)
    tracks = Tracks(ids, np.zeros((n, 4), np.float32), np.ones(n, np.float32), np.zeros(n, np.int64), np.arange(n))
    return TrackedFrame(index, index / 10, tracks, np.array(list(identities.values()), np.int64))


def shown(settled: list[ResolvedFrame]) -> list[tuple[int, list[int]]]:
    return [(one.frame.index, one.frame.identities.tolist()) for one in settled]


def sighting(*identities: int) -> EmbeddedCrops:
    n = len(identities)
    boxes, looks = np.zeros((n, 4), np.float32), np.zeros((n, 2), np.float32)
    return EmbeddedCrops(
        0.0, np.array(identities), boxes, np.ones(n, np.float32), looks, np.zeros((n, 4, 2, 3), np.uint8)
    )


LINK = Link(track=5, identity=1, previous_track=2, distance=0.1, gap_s=3.0, moved=0.5)


def test_frames_in_which_all_are_known_do_not_wait() -> None:
    waiting = FrameBuffer()
    assert shown(waiting.add(frame(0, t1=1, t2=2), [])) == [(0, [1, 2])]
    assert shown(waiting.add(frame(1), [])) == [(1, [])]


def test_frames_wait_for_the_first_that_is_undecided() -> None:
    waiting = FrameBuffer()
    assert waiting.add(frame(0, t1=1, t5=-2), []) == []
    assert waiting.add(frame(1, t1=1), []) == []
    assert waiting.add(frame(2, t5=-2, t6=-3), []) == []
    assert shown(waiting.add(frame(3, t5=4), [Decision(-2, 4, None)])) == [(0, [1, 4]), (1, [1])]
    assert shown(waiting.settle([Decision(-3, 5, None)])) == [(2, [4, 5]), (3, [4])]
    assert waiting.settle([]) == []


def test_the_first_frame_of_a_track_says_why_it_has_its_identity() -> None:
    waiting = FrameBuffer()
    waiting.add(frame(0, t4=-1), [])
    waiting.add(frame(1, t4=-1, t5=-2), [])
    done = waiting.add(frame(2, t4=-1, t5=1), [Decision(-2, 1, LINK)])
    assert done == []
    done = waiting.settle([Decision(-1, 3, None)])
    assert [one.frame.links for one in done] == [(), (LINK,), ()]


def test_a_decision_of_the_very_frame_is_said_in_it() -> None:
    done = FrameBuffer().add(frame(0, t5=1), [Decision(-2, 1, LINK)])
    assert [one.frame.links for one in done] == [(LINK,)]


def test_who_was_looked_at_is_told_with_the_identity_that_was_decided() -> None:
    waiting = FrameBuffer()
    waiting.add(frame(0, t1=1, t5=-2), [], sighting(1, -2))
    waiting.add(frame(1, t5=-2), [], None)
    first, second = waiting.settle([Decision(-2, 4, None)])
    assert first.sighting is not None
    assert first.sighting.identities.tolist() == [1, 4]
    assert second.sighting is None


def test_the_predicted_box_of_who_was_seen_elsewhere_goes() -> None:
    waiting = FrameBuffer()
    waiting.add(frame(0, t2=1, t5=-2, t7=3), [])  # track 2 is lost and only predicted; it turns out to be track 5
    (settled,) = waiting.settle([Decision(-2, 1, LINK)])
    assert settled.frame.tracks.ids.tolist() == [5, 7]
    assert settled.frame.identities.tolist() == [1, 3]
    assert settled.frame.links == (LINK,)
