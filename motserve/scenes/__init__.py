"""Rendered scenes of walking people with exact ground truth: for the demo, for tests and for training."""

from motserve.scenes.config import SceneConfig
from motserve.scenes.cutout import Cutout, cutout_of
from motserve.scenes.render import RenderedFrame, Truth, ground_truth_rows, render
from motserve.scenes.stage import Placement, Shot, Stage

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
