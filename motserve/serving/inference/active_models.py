"""Which models new videos get: a row for each in SQLite, so that all replicas of a deployment agree."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from motserve.config import Config
from motserve.config.base import Role
from motserve.models.weights import pin_weights
from motserve.people.database import Migration, migrate, transaction
from motserve.serving.inference.model_cache import Names

_KEPT: Final = 100  # deployments; sessions of an older one may still run while the next starts

SERVED_FILE: Final = "models.sqlite"
SERVED_STEPS: Final[tuple[Migration, ...]] = (
    (
        "CREATE TABLE IF NOT EXISTS served (deployment TEXT NOT NULL, role TEXT NOT NULL, names TEXT NOT NULL, "
        "since REAL NOT NULL, PRIMARY KEY (deployment, role))",
    ),
)
"""Versions of the table; a new column is a step at the end, see `migrate`."""


class ActiveModels:
    """The models of one deployment of the application.

    A new deployment begins with what its configuration says; a replica that is added to it finds what is current.

    Args:
        root: Folder of the file; made where it does not exist.
        deployment: ID of the deployment.
    """

    def __init__(self, root: Path, deployment: str) -> None:
        self._path = root / SERVED_FILE
        self._deployment = deployment
        migrate(self._path, SERVED_STEPS)

    def names(self, role: Role, config: Config, pin: Callable[[Role, Config], Names] = pin_weights) -> Names:
        """Return what is current; where nobody has asked before, what the configuration means now becomes current.

        Args:
            role: Which model.
            config: The configuration.
            pin: Tells which exact weights the configuration means now.
        """
        current = self.current(role)
        return self._begin(role, pin(role, config)) if current is None else current

    def current(self, role: Role) -> Names | None:
        """Return what is current; None where nobody has asked for its `names` yet."""
        with transaction(self._path) as database:
            row = database.execute(
                "SELECT names FROM served WHERE deployment = ? AND role = ?", [self._deployment, role]
            ).fetchone()
        return None if row is None else tuple(json.loads(row["names"]))

    def change(self, role: Role, before: Names, names: Names) -> None:
        """Make other names current, unless somebody else has changed them since they were `before`."""
        with transaction(self._path) as database:
            database.execute(
                "UPDATE served SET names = ?, since = ? WHERE deployment = ? AND role = ? AND names = ?",
                [_written(names), time.time(), self._deployment, role, _written(before)],
            )

    def _begin(self, role: Role, names: Names) -> Names:
        row = [self._deployment, role, _written(names), time.time()]
        with transaction(self._path) as database:
            # another replica may have been faster
            database.execute("INSERT OR IGNORE INTO served VALUES (?, ?, ?, ?)", row)
            database.execute(
                "DELETE FROM served WHERE deployment NOT IN "
                "(SELECT deployment FROM served GROUP BY deployment ORDER BY max(since) DESC LIMIT ?)",
                [_KEPT],
            )
        return self.current(role) or names


def _written(names: Names) -> str:
    """Return names as JSON in ASCII, from which a path that is not UTF-8 comes back as it was."""
    return json.dumps(names, separators=(",", ":"))
