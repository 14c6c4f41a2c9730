"""Trackers of other packages behind one small interface, to run and time them beside motserve's own.

The input of a package is prepared before its step, and its output is read after it, so that a clock around the step
measures the tracker alone. Camera motion is not compensated and no appearance is used: peers get the same input as
motserve's own trackers.
"""

from motserve.lab.benchmark.peers.contender import Contender, Own, Step
from motserve.lab.benchmark.peers.registry import LIBRARIES, MakePeer, available_peers
from motserve.lab.benchmark.peers.ultralytics import Ultralytics, equal_thresholds, keys_without_equal

__all__ = [
    "LIBRARIES",
    "Contender",
    "MakePeer",
    "Own",
    "Step",
    "Ultralytics",
    "available_peers",
    "equal_thresholds",
    "keys_without_equal",
]
