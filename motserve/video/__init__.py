"""Video in and video out: sources of frames with real timestamps, and browser-playable annotated video."""

from motserve.video.annotate import Annotator, annotate_video, colour_of, draw
from motserve.video.base import VideoInfo, VideoSource
from motserve.video.clock import FrameClock
from motserve.video.probe import probe_video
from motserve.video.source import open_video
from motserve.video.writer import VideoWriter

__all__ = [
    "Annotator",
    "FrameClock",
    "VideoInfo",
    "VideoSource",
    "VideoWriter",
    "annotate_video",
    "colour_of",
    "draw",
    "open_video",
    "probe_video",
]
