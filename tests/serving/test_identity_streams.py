"""Invariants of the linker for any stream of tracks and any settings, checked on random crowds."""

from __future__ import annotations

import numpy as np
import pytest
from identity_crowds import FRAMES, RATE_HZ, Crowd, settings

from motserve.pipeline.frame_buffer import FrameBuffer, ResolvedFrame
from motserve.reid.linker import IdentityLinker
from motserve.types import TrackedFrame


def run(seed: int) -> tuple[list[ResolvedFrame], IdentityLinker]:
    config, size = settings(seed)
    crowd, linker, buffer = Crowd(seed), IdentityLinker(config, size), FrameBuffer()
    resolved: list[ResolvedFrame] = []
    for index in range(FRAMES):
        timestamp = index / RATE_HZ
        tracks = crowd.step()
        rows = linker.plan(tracks, timestamp)
        assert tracks.measured[rows].all(), "a predicted box is embedded"
        embeddings = crowd.embeddings(tracks.ids[rows].tolist()) if len(rows) else np.empty((0, 0), np.float32)
        identities = linker.link(tracks, timestamp, rows, embeddings)
        shown = np.flatnonzero(identities)
        frame = TrackedFrame(index, timestamp, tracks.select(shown), identities[shown])
        resolved += buffer.add(frame, linker.take_decisions())
        held = index - (resolved[-1].frame.index if resolved else -1)
        assert held <= round(config.decision.wait_s * RATE_HZ), "a frame is held back for longer than allowed"
    linker.finish((FRAMES - 1) / RATE_HZ)
    return resolved + buffer.resolve(linker.take_decisions()), linker


@pytest.mark.parametrize("seed", range(30))
def test_every_frame_is_released_once_in_order_with_identities_that_are_unique(seed: int) -> None:
    resolved, linker = run(seed)
    assert [one.frame.index for one in resolved] == list(range(FRAMES))
    for one in resolved:
        identities = one.frame.identities
        assert (identities > 0).all(), "an identity is still undecided"
        assert len(set(identities.tolist())) == len(identities), "one identity twice in a frame"
        for link in one.frame.links:
            (row,) = np.flatnonzero(one.frame.tracks.ids == link.track)
            assert identities[row] == link.identity
    assert max(max(one.frame.identities, default=0) for one in resolved) == linker.identities
    assert 0 <= linker.links <= sum(len(one.frame.links) for one in resolved)


def test_the_same_stream_gives_the_same_identities() -> None:
    first, again = run(7)[0], run(7)[0]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.frame.identities, other.frame.identities)
        assert one.frame.links == other.frame.links


def test_some_of_the_streams_have_links_that_waited() -> None:
    resolved = [one for seed in range(30) for one in run(seed)[0]]
    assert sum(len(one.frame.links) for one in resolved) > 20
