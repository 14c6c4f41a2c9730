"""What can be done with the tracks of a whole file once its end is known: identities joined, gaps filled."""

from motserve.postprocessing.gaps import fill_gaps
from motserve.postprocessing.linking import PossibleJoints, find_joints, link_identities
from motserve.postprocessing.post_processor import Finisher
from motserve.postprocessing.regrouping import LookBook, regroup
from motserve.postprocessing.tracklet import Piece

__all__ = ["Finisher", "LookBook", "Piece", "PossibleJoints", "fill_gaps", "find_joints", "link_identities", "regroup"]
