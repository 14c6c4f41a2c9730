"""What holds for every stream of tracks, whatever the settings: random crowds that come, go, hide and return."""

from __future__ import annotations

import numpy as np
import pytest
from identity_crowds import FRAMES, RATE_HZ, Crowd, settings

from motserve.pipeline.frame_buffer import FrameBuffer, ResolvedFrame
from motserve.reid.linker import IdentityLinker
from motserve.types import TrackedFrame


def run(seed: int) -> tuple[list[ResolvedFrame], IdentityLinker]:
    config, size = settings(seed)
    crowd, linker, waiting = Crowd(seed), IdentityLinker(config, size), FrameBuffer()
    released: list[ResolvedFrame] = []
    for index in range(FRAMES):
        timestamp = index / RATE_HZ
        tracks = crowd.step()
        rows = linker.plan(tracks, timestamp)
        assert tracks.measured[rows].all(), "a predicted box is looked at"
        embeddings = crowd.looks(tracks.ids[rows].tolist()) if len(rows) else np.empty((0, 0), np.float32)
        identities = linker.link(tracks, timestamp, rows, embeddings)
        shown = np.flatnonzero(identities)
        frame = TrackedFrame(index, timestamp, tracks.part(shown), identities[shown])
        released += waiting.add(frame, linker.decisions())
        held = index - (released[-1].frame.index if released else -1)
        assert held <= round(config.decision.wait_s * RATE_HZ), "a frame is held back for longer than allowed"
    linker.finish((FRAMES - 1) / RATE_HZ)
    return released + waiting.settle(linker.decisions()), linker


@pytest.mark.parametrize("seed", range(30))
def test_every_frame_is_released_once_in_order_with_identities_that_are_unique(seed: int) -> None:
    released, linker = run(seed)
    assert [one.frame.index for one in released] == list(range(FRAMES))
    for one in released:
        identities = one.frame.identities
        assert (identities > 0).all(), "somebody is undecided still"
        assert len(set(identities.tolist())) == len(identities), "one identity twice in a frame"
        for link in one.frame.links:
            (row,) = np.flatnonzero(one.frame.tracks.ids == link.track)
            assert identities[row] == link.identity
    assert max(max(one.frame.identities, default=0) for one in released) == linker.identities
    assert 0 <= linker.links <= sum(len(one.frame.links) for one in released)


def test_the_same_stream_gives_the_same_identities() -> None:
    first, again = run(7)[0], run(7)[0]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.frame.identities, other.frame.identities)
        assert one.frame.links == other.frame.links


def test_some_of_the_streams_have_links_that_waited() -> None:
    released = [one for seed in range(30) for one in run(seed)[0]]
    assert sum(len(one.frame.links) for one in released) > 20
