"""Models as versions in MLflow's registry: what they are, what they score, which of them is in production."""

from motserve.models.registry.card import CARD, Card, Scores, read_card, write_card
from motserve.models.registry.gate import Verdict, judge
from motserve.models.registry.history import Move
from motserve.models.registry.store import Registry
from motserve.models.registry.version import Version

__all__ = ["CARD", "Card", "Move", "Registry", "Scores", "Verdict", "Version", "judge", "read_card", "write_card"]
