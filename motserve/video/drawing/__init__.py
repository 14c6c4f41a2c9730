"""Draws tracked frames: a pure function of the picture, its tracks and what is shown of earlier frames."""

from motserve.video.drawing.colours import colour_of
from motserve.video.drawing.frame import draw
from motserve.video.drawing.state import AnnotationState

__all__ = ["AnnotationState", "colour_of", "draw"]
