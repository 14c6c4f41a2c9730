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


def summary(resolved: list[ResolvedFrame]) -> list[tuple[int, list[int]]]:
    return [(one.frame.index, one.frame.identities.tolist()) for one in resolved]


def embedded(*identities: int) -> EmbeddedCrops:
    n = len(identities)
    boxes, embeddings = np.zeros((n, 4), np.float32), np.zeros((n, 2), np.float32)
    return EmbeddedCrops(
        0.0, np.array(identities), boxes, np.ones(n, np.float32), embeddings, np.zeros((n, 4, 2, 3), np.uint8)
    )


LINK = Link(track=5, identity=1, previous_track=2, distance=0.1, gap_s=3.0, moved=0.5)


def test_frames_with_decided_identities_are_not_held_back() -> None:
    buffer = FrameBuffer()
    assert summary(buffer.add(frame(0, t1=1, t2=2), [])) == [(0, [1, 2])]
    assert summary(buffer.add(frame(1), [])) == [(1, [])]


def test_frames_wait_for_the_first_undecided_one() -> None:
    buffer = FrameBuffer()
    assert buffer.add(frame(0, t1=1, t5=-2), []) == []
    assert buffer.add(frame(1, t1=1), []) == []
    assert buffer.add(frame(2, t5=-2, t6=-3), []) == []
    assert summary(buffer.add(frame(3, t5=4), [Decision(-2, 4, None)])) == [(0, [1, 4]), (1, [1])]
    assert summary(buffer.resolve([Decision(-3, 5, None)])) == [(2, [4, 5]), (3, [4])]
    assert buffer.resolve([]) == []


def test_the_first_frame_of_a_track_has_its_link() -> None:
    buffer = FrameBuffer()
    buffer.add(frame(0, t4=-1), [])
    buffer.add(frame(1, t4=-1, t5=-2), [])
    resolved = buffer.add(frame(2, t4=-1, t5=1), [Decision(-2, 1, LINK)])
    assert resolved == []
    resolved = buffer.resolve([Decision(-1, 3, None)])
    assert [one.frame.links for one in resolved] == [(), (LINK,), ()]


def test_a_decision_of_the_same_frame_is_in_its_links() -> None:
    resolved = FrameBuffer().add(frame(0, t5=1), [Decision(-2, 1, LINK)])
    assert [one.frame.links for one in resolved] == [(LINK,)]


def test_embedded_crops_get_the_decided_identity() -> None:
    buffer = FrameBuffer()
    buffer.add(frame(0, t1=1, t5=-2), [], embedded(1, -2))
    buffer.add(frame(1, t5=-2), [], None)
    first, second = buffer.resolve([Decision(-2, 4, None)])
    assert first.embedded is not None
    assert first.embedded.identities.tolist() == [1, 4]
    assert second.embedded is None


def test_the_predicted_box_of_an_identity_detected_elsewhere_is_removed() -> None:
    buffer = FrameBuffer()
    buffer.add(frame(0, t2=1, t5=-2, t7=3), [])  # track 2 is lost and only predicted; it turns out to be track 5
    (resolved,) = buffer.resolve([Decision(-2, 1, LINK)])
    assert resolved.frame.tracks.ids.tolist() == [5, 7]
    assert resolved.frame.identities.tolist() == [1, 3]
    assert resolved.frame.links == (LINK,)
