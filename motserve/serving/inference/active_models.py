"""The active models, those that new videos get: one SQLite row per role, so that all replicas of a deployment agree."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from motserve.config import Config
from motserve.config.base import Role
from motserve.models.weights import pin_weights
from motserve.people.database import BUSY_TIMEOUT_S, Migration, migrate, transaction
from motserve.serving.inference.backends import Names

_MAX_DEPLOYMENTS: Final = 100  # rows of older ones are deleted; their sessions may still run while the next one starts

ACTIVE_MODELS_FILE: Final = "models.sqlite"
ACTIVE_MODELS_STEPS: Final[tuple[Migration, ...]] = (
    (
        "CREATE TABLE IF NOT EXISTS served (deployment TEXT NOT NULL, role TEXT NOT NULL, names TEXT NOT NULL, "
        "since REAL NOT NULL, PRIMARY KEY (deployment, role))",
    ),
    ("ALTER TABLE served RENAME TO active_models",),
)
"""Migrations of the table; a change is a new step at the end, see `migrate`."""


class ActiveModels:
    """The active models of one deployment of the application.

    A new deployment starts with the models of its configuration; a replica added later reads the active ones.

    Args:
        root: Folder of the database file; created if it does not exist.
        deployment: ID of the deployment.
        busy_timeout_s: Seconds that a call waits while another process locks the file; then it raises
            `sqlite3.OperationalError`.
    """

    def __init__(self, root: Path, deployment: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = root / ACTIVE_MODELS_FILE
        self._deployment = deployment
        self._busy_timeout_s = busy_timeout_s
        migrate(self._path, ACTIVE_MODELS_STEPS)

    def names(self, role: Role, config: Config, pin: Callable[[Role, Config], Names] = pin_weights) -> Names:
        """Return the active weights; the first call of a deployment activates those that the configuration names.

        Args:
            role: Which model.
            config: The configuration.
            pin: Resolves the weights of the configuration to exact versions.
        """
        current = self.current(role)
        return self._initialize(role, pin(role, config)) if current is None else current

    def current(self, role: Role) -> Names | None:
        """Return the active weights; None before the first call of `names`."""
        with transaction(self._path, self._busy_timeout_s) as database:
            row = database.execute(
                "SELECT names FROM active_models WHERE deployment = ? AND role = ?", [self._deployment, role]
            ).fetchone()
        return None if row is None else tuple(json.loads(row["names"]))

    def change(self, role: Role, before: Names, names: Names) -> None:
        """Replace the active weights `before` by `names`; do nothing if another replica has replaced them already."""
        with transaction(self._path, self._busy_timeout_s) as database:
            database.execute(
                "UPDATE active_models SET names = ?, since = ? WHERE deployment = ? AND role = ? AND names = ?",
                [_to_json(names), time.time(), self._deployment, role, _to_json(before)],
            )

    def _initialize(self, role: Role, names: Names) -> Names:
        row = [self._deployment, role, _to_json(names), time.time()]
        with transaction(self._path, self._busy_timeout_s) as database:
            # ignored if another replica has inserted its row first
            database.execute("INSERT OR IGNORE INTO active_models VALUES (?, ?, ?, ?)", row)
            database.execute(
                "DELETE FROM active_models WHERE deployment NOT IN "
                "(SELECT deployment FROM active_models GROUP BY deployment ORDER BY max(since) DESC LIMIT ?)",
                [_MAX_DEPLOYMENTS],
            )
        return self.current(role) or names


def _to_json(names: Names) -> str:
    """Return names as ASCII JSON, which preserves a path that is not valid UTF-8."""
    return json.dumps(names, separators=(",", ":"))
