"""Which trackers of other packages are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

from motserve.lab.benchmark.peers import boxmot, native, roboflow, ultralytics
from motserve.lab.benchmark.peers.contender import Contender

MakePeer: TypeAlias = Callable[[float | None], Contender]
"""Makes a tracker from a frame rate in Hz, None where it is not known."""

LIBRARIES = ("trackers", "boxmot", "pyxtrackers", "edgefirst-tracker")
"""Distributions that peers may come from, besides Ultralytics."""


def available_peers() -> dict[str, MakePeer]:
    """Return what makes each peer that is installed, with the settings it ships with."""
    peers: dict[str, MakePeer] = {}
    for name in ultralytics.NAMES:
        peers[f"ultralytics-{name}"] = _without_rate(ultralytics.Ultralytics, name)
    if find_spec("trackers") is not None:
        for name, (cls, changes) in roboflow.NAMES.items():
            peers[f"roboflow-{name}"] = _with_rate(cls, changes)
    if find_spec("boxmot") is not None:
        for name, (cls, changes) in boxmot.NAMES.items():
            peers[f"boxmot-{name}"] = _without_rate(boxmot.BoxMot, cls, **changes)
    if find_spec("pyxtrackers") is not None:
        for name, (cls, changes) in native.PYXTRACKERS.items():
            peers[f"pyxtrackers-{name}"] = _without_rate(native.PyxTrackers, cls, **changes)
    if find_spec("edgefirst") is not None:
        peers["edgefirst-bytetrack"] = _without_rate(native.EdgeFirst)
    return peers


def _without_rate(kind: Callable[..., Contender], *arguments: str, **changes: Any) -> MakePeer:
    return lambda _: kind(*arguments, **changes)


def _with_rate(cls: str, changes: Any) -> MakePeer:
    return lambda rate_hz: roboflow.Roboflow(cls, rate_hz, **changes)
