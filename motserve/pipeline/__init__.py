"""One video through detector, tracker and identities: the code path of the command line and of the service alike."""

from motserve.pipeline.loop import Detect, Embed, EmbedBoxes, track_frames, track_frames_with
from motserve.pipeline.video_tracker import Look, OnEmbedded, Picture, PipelineStats, VideoTracker

__all__ = [
    "Detect",
    "Embed",
    "EmbedBoxes",
    "Look",
    "OnEmbedded",
    "Picture",
    "PipelineStats",
    "VideoTracker",
    "track_frames",
    "track_frames_with",
]
