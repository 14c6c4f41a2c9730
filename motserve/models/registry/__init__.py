"""Versions of models in the MLflow registry, their scores, and the aliases that put them into production."""

from motserve.models.registry.card import CARD, Card, Scores, read_card, write_card
from motserve.models.registry.history import Move
from motserve.models.registry.promotion_gate import Verdict, judge
from motserve.models.registry.store import Registry
from motserve.models.registry.version import Version

__all__ = ["CARD", "Card", "Move", "Registry", "Scores", "Verdict", "Version", "judge", "read_card", "write_card"]
