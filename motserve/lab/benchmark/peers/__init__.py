"""Trackers of other packages behind one small interface, to be run and timed beside motserve's own.

What a package needs as input is made before its step, and what it answers is read after it, so that a clock around
the step measures the tracker alone. Camera motion is not compensated and no appearance is used: peers get what
motserve's own trackers get.
"""

from motserve.lab.benchmark.peers.contender import Contender, Own, Step
from motserve.lab.benchmark.peers.registry import LIBRARIES, MakePeer, available_peers
from motserve.lab.benchmark.peers.ultralytics import Ultralytics, equal_thresholds, without_equal

__all__ = [
    "LIBRARIES",
    "Contender",
    "MakePeer",
    "Own",
    "Step",
    "Ultralytics",
    "available_peers",
    "equal_thresholds",
    "without_equal",
]
