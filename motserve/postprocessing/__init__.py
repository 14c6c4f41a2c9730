"""What can be done with the tracks of a whole file once its end is known: identities joined, gaps filled."""

from motserve.postprocessing.gaps import fill_gaps
from motserve.postprocessing.linking import PossibleJoints, find_joints, link_identities
from motserve.postprocessing.post_processor import PostProcessor
from motserve.postprocessing.regrouping import EmbeddingHistory, regroup
from motserve.postprocessing.tracklet import Tracklet

__all__ = [
    "EmbeddingHistory",
    "PossibleJoints",
    "PostProcessor",
    "Tracklet",
    "fill_gaps",
    "find_joints",
    "link_identities",
    "regroup",
]
