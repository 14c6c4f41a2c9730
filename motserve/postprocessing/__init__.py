"""Postprocessing of the tracks of a whole file: linking identities, filling gaps, smoothing."""

from motserve.postprocessing.gaps import fill_gaps
from motserve.postprocessing.linking import CandidateLinks, find_candidate_links, link_identities
from motserve.postprocessing.post_processor import PostProcessor
from motserve.postprocessing.regrouping import EmbeddingHistory, regroup
from motserve.postprocessing.tracklet import Tracklet

__all__ = [
    "CandidateLinks",
    "EmbeddingHistory",
    "PostProcessor",
    "Tracklet",
    "fill_gaps",
    "find_candidate_links",
    "link_identities",
    "regroup",
]
