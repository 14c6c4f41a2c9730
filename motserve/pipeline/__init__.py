"""Processes one video with detector, tracker and identity linker, for the command line and the service alike."""

from motserve.pipeline.loop import Detect, Embed, EmbedBoxes, track_frames, track_frames_with
from motserve.pipeline.video_tracker import EmbedFrameBoxes, GetImage, OnEmbedded, PipelineStats, VideoTracker

__all__ = [
    "Detect",
    "Embed",
    "EmbedBoxes",
    "EmbedFrameBoxes",
    "GetImage",
    "OnEmbedded",
    "PipelineStats",
    "VideoTracker",
    "track_frames",
    "track_frames_with",
]
