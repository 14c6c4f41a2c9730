"""The card beside the weights of a model: which network they belong to, how it was trained, what it scores."""

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
    """What a model scores on one set of data.

    Attributes:
        data: Name of the data, for people.
        key: Checksum over the data and everything else that two models must share to be compared.
        metrics: Scores by name; ratios in per cent.
    """

    data: str
    key: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a model.

    Attributes:
        role: `detector` or `reid`.
        weights: Name of the file of weights, beside the card.
        sha256: Its checksum.
        architecture: Name of the network, which is built from it before the weights are put in.
        training: How it was trained: job, seed, epochs, data.
        scores: What it scores.
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
        WeightsUnavailable: The weights are missing or others than the card says.
    """
    path = folder / CARD
    try:
        tree = orjson.loads(path.read_bytes())
        scores = tuple(Scores(**one) for one in tree.pop("scores"))
        card = Card(**tree, scores=scores)
    except OSError as error:
        raise InvalidData(f"{folder} is no model: {CARD} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidData(f"{path} is no card of a model ({type(error).__name__}: {error})") from error
    weights = folder / card.weights
    if weights.parent != folder or not weights.is_file():
        raise WeightsUnavailable(f"{folder} lacks the weights {card.weights} of its card")
    found = checksum(weights)
    if found != card.sha256:
        raise WeightsUnavailable(
            f"{weights} was changed: its checksum is {found[:12]}…, that on its card {card.sha256[:12]}…"
        )
    return card
