"""Video input and output: frames with real timestamps, and annotated video that browsers play."""

from motserve.video.annotate import Annotator, annotate_video
from motserve.video.base import VideoInfo, VideoSource
from motserve.video.clock import FrameClock
from motserve.video.drawing import AnnotationState, colour_of, draw
from motserve.video.probe import probe_video
from motserve.video.source import check_source, open_video
from motserve.video.writer import VideoWriter

__all__ = [
    "AnnotationState",
    "Annotator",
    "FrameClock",
    "VideoInfo",
    "VideoSource",
    "VideoWriter",
    "annotate_video",
    "check_source",
    "colour_of",
    "draw",
    "open_video",
    "probe_video",
]
