"""One version of a model, and its tags in MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Final, cast, get_args

import orjson

from motserve.config.base import Role
from motserve.errors import NotFound
from motserve.files.names import to_json
from motserve.models.mlflow_store import plain_name
from motserve.models.registry.card import Scores

ARCHIVED: Final = "archived"
"""Tag of a version that is out of use."""

_SCORES: Final = "scores."
_KEY_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model.

    Attributes:
        model: Name of the model.
        number: Its number, from 1.
        role: What it is for.
        architecture: Its network.
        sha256: Checksum of its weights.
        created: When it was registered.
        run_id: The run of MLflow that it comes from.
        aliases: What it is to services at present.
        archived: Whether it is out of use.
        scores: What it scores, by the key of the data.
    """

    model: str
    number: int
    role: Role
    architecture: str
    sha256: str
    created: datetime
    run_id: str
    aliases: tuple[str, ...]
    archived: bool
    scores: Mapping[str, Scores]

    @property
    def uri(self) -> str:
        """The name by which configurations ask for exactly this version."""
        return f"models:/{self.model}/{self.number}"


def score_tags(scores: Iterable[Scores]) -> dict[str, str]:
    """Write scores as tags: all of them by the key of their data, and the first data's also by their plain names."""
    tags: dict[str, str] = {}
    for one in scores:
        tags[f"{_SCORES}{one.key[:_KEY_DIGITS]}"] = to_json(asdict(one)).decode()
        for name, value in one.metrics.items():
            tags.setdefault(plain_name(name), f"{value:.2f}")
    return tags


def is_ours(found: Any) -> bool:
    """Tell whether motserve registered a version of MLflow's."""
    return found.tags.get("role") in get_args(Role)


def read_version(found: Any, aliases: Mapping[str, str]) -> Version:
    """Read a version of MLflow's.

    Args:
        found: The version.
        aliases: Number of the version that each alias of the model is on.

    Raises:
        NotFound: It is not one of motserve's.
    """
    tags = found.tags
    if not is_ours(found):
        raise NotFound(f"{found.name}/{found.version} was not registered by motserve: it has no tag `role`")
    scores = [Scores(**orjson.loads(value)) for key, value in tags.items() if key.startswith(_SCORES)]
    number = int(found.version)
    return Version(
        model=found.name,
        number=number,
        role=cast("Role", tags["role"]),
        architecture=tags.get("architecture", ""),
        sha256=tags.get("sha256", ""),
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, timezone.utc),
        run_id=found.run_id or "",
        aliases=tuple(sorted(alias for alias, of in aliases.items() if int(of) == number)),
        archived=tags.get(ARCHIVED) == "true",
        scores={one.key: one for one in scores},
    )
