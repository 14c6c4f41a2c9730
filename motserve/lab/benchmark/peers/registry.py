"""Finds the installed trackers of other packages."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

from motserve.lab.benchmark.peers import boxmot, native, roboflow, ultralytics
from motserve.lab.benchmark.peers.contender import Contender

MakePeer: TypeAlias = Callable[[float | None], Contender]
"""Builds a tracker for a frame rate in Hz, None where it is unknown."""

LIBRARIES = ("trackers", "boxmot", "pyxtrackers", "edgefirst-tracker")
"""Distributions that peers may come from, besides Ultralytics."""


def available_peers() -> dict[str, MakePeer]:
    """Return, by name, a function that builds each installed peer with its default settings."""
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
