"""The card beside the weights of a model: network, training and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from motserve.config.base import Role
from motserve.errors import InvalidData, WeightsUnavailable
from motserve.files.atomic import write_json
from motserve.models.checksums import checksum

CARD: Final = "model.json"


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a model on one data set.

    Attributes:
        data: Readable name of the data.
        key: Checksum of the data and of all settings that must be equal for a comparison of two models.
        metrics: Scores by name; ratios in percent.
    """

    data: str
    key: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Card:
    """Description of a model.

    Attributes:
        role: `detector` or `reid`.
        weights: Name of the weights file beside the card.
        sha256: Its checksum.
        architecture: Name of the network, from which it is built before the weights are loaded.
        training: Training of the model: job, seed, epochs, data.
        scores: Scores of the model.
    """

    role: Role
    weights: str
    sha256: str
    architecture: str
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: tuple[Scores, ...] = ()


def write_card(folder: Path, card: Card) -> None:
    """Write the card of a model into its folder."""
    write_json(folder / CARD, asdict(card))


def read_card(folder: Path) -> Card:
    """Read the card of a model, and check the weights against it.

    Raises:
        InvalidData: There is no card, or it is malformed.
        WeightsUnavailable: The weights are missing or differ from the card.
    """
    path = folder / CARD
    try:
        tree = orjson.loads(path.read_bytes())
        scores = tuple(Scores(**entry) for entry in tree.pop("scores"))
        card = Card(**tree, scores=scores)
    except OSError as error:
        raise InvalidData(f"{folder} is not a model: {CARD} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidData(f"{path} is not a card of a model ({type(error).__name__}: {error})") from error
    weights = folder / card.weights
    if weights.parent != folder or not weights.is_file():
        raise WeightsUnavailable(f"{folder} lacks the weights {card.weights} of its card")
    actual = checksum(weights)
    if actual != card.sha256:
        raise WeightsUnavailable(
            f"{weights} was changed: its checksum is {actual[:12]}…, that on its card {card.sha256[:12]}…"
        )
    return card
