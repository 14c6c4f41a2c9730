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
"""Tag of an archived version."""

_SCORES: Final = "scores."
_KEY_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model.

    Attributes:
        model: Name of the model.
        number: Its number, from 1.
        role: `detector` or `reid`.
        architecture: Name of its network.
        sha256: Checksum of its weights.
        created: When it was registered.
        run_id: The MLflow run that it comes from.
        aliases: Its current aliases.
        archived: Whether it is archived.
        scores: Its scores, by the key of the data.
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
        """The name of exactly this version in a configuration."""
        return f"models:/{self.model}/{self.number}"


def score_tags(scores: Iterable[Scores]) -> dict[str, str]:
    """Return scores as tags: all by the key of their data, and those on the first data also by their plain names."""
    tags: dict[str, str] = {}
    for one in scores:
        tags[f"{_SCORES}{one.key[:_KEY_DIGITS]}"] = to_json(asdict(one)).decode()
        for name, value in one.metrics.items():
            tags.setdefault(plain_name(name), f"{value:.2f}")
    return tags


def is_ours(stored: Any) -> bool:
    """Return whether a version in MLflow was registered by motserve."""
    return stored.tags.get("role") in get_args(Role)


def read_version(stored: Any, aliases: Mapping[str, str]) -> Version:
    """Read a version in MLflow.

    Args:
        stored: The version.
        aliases: Version number of each alias of the model.

    Raises:
        NotFound: It was not registered by motserve.
    """
    tags = stored.tags
    if not is_ours(stored):
        raise NotFound(f"{stored.name}/{stored.version} was not registered by motserve: it has no tag `role`")
    scores = [Scores(**orjson.loads(value)) for key, value in tags.items() if key.startswith(_SCORES)]
    number = int(stored.version)
    return Version(
        model=stored.name,
        number=number,
        role=cast("Role", tags["role"]),
        architecture=tags.get("architecture", ""),
        sha256=tags.get("sha256", ""),
        created=datetime.fromtimestamp(stored.creation_timestamp / 1000, timezone.utc),
        run_id=stored.run_id or "",
        aliases=tuple(sorted(alias for alias, of in aliases.items() if int(of) == number)),
        archived=tags.get(ARCHIVED) == "true",
        scores={one.key: one for one in scores},
    )
