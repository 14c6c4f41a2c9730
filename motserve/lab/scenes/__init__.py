"""Rendered scenes of walking people with exact ground truth: for the demo, for tests and for training."""

from motserve.lab.scenes.config import SceneConfig
from motserve.lab.scenes.cutout import Cutout, cutout_of
from motserve.lab.scenes.render import RenderedFrame, Truth, ground_truth_rows, render
from motserve.lab.scenes.stage import Placement, Shot, Stage

__all__ = [
    "Cutout",
    "Placement",
    "RenderedFrame",
    "SceneConfig",
    "Shot",
    "Stage",
    "Truth",
    "cutout_of",
    "ground_truth_rows",
    "render",
]
