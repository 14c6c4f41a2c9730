"""One video through detector, tracker and identities: the code path of the command line and of the service alike."""

from motserve.pipeline.loop import Detect, Embed, EmbedBoxes, follow_frames, track_frames
from motserve.pipeline.video_tracker import Follower, Look, Picture, PipelineStats, Witness

__all__ = [
    "Detect",
    "Embed",
    "EmbedBoxes",
    "Follower",
    "Look",
    "Picture",
    "PipelineStats",
    "Witness",
    "follow_frames",
    "track_frames",
]
