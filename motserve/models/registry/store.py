"""The model registry in MLflow: versions, the aliases that services use, and the history of alias moves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from motserve.config import MlflowConfig
from motserve.config.registry import Alias, RegistryConfig
from motserve.errors import Conflict, NotFound, WeightsUnavailable
from motserve.models.credentials import without_credentials
from motserve.models.mlflow_store import connect, failures, refusals, store_exists
from motserve.models.registry.card import Scores, read_card
from motserve.models.registry.history import (
    HISTORY,
    MOST_REASON,
    Move,
    Way,
    read_history,
    user,
    version_before,
    write_history,
)
from motserve.models.registry.promotion_gate import Verdict, judge
from motserve.models.registry.version import ARCHIVED, Version, is_ours, read_version, score_tags

logger = logging.getLogger("motserve.models.registry")

_PAGE: Final = 1000


class Registry:
    """The models of one MLflow store.

    Args:
        config: The store.
        gates: Scores that versions must reach; None for the defaults.
        clock: Returns the current time with its time zone.
    """

    def __init__(
        self,
        config: MlflowConfig,
        gates: RegistryConfig | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._config = config
        self._gates = gates or RegistryConfig()
        self._clock = clock

    def register(self, model: str, folder: Path, run_id: str, artifact: str = "model") -> Version:
        """Register a model that a run has logged as a version; its scores become tags.

        Args:
            model: Name of the model; a missing one is created.
            folder: Files of the model, including its card.
            run_id: The run.
            artifact: Artifact folder of the run with the same files.

        Raises:
            MotserveError: The store refuses.
            Conflict: The model of that name has another role.
        """
        card = read_card(folder)
        client = self._client
        with refusals(self._config, f"a version of {model}"):
            if any(registered.name == model for registered in client.search_registered_models(_named(model))):
                others = {version.role for version in self.versions(model)} - {card.role}
                if others:
                    raise Conflict(f"{model} is a {others.pop()}; register a {card.role} by another name")
            else:
                client.create_registered_model(model)
            run = client.get_run(run_id)
            tags = {
                "role": card.role,
                "architecture": card.architecture,
                "sha256": card.sha256,
                **score_tags(card.scores),
            }
            created = client.create_model_version(model, f"{run.info.artifact_uri}/{artifact}", run_id, tags=tags)
        logger.info("registered", extra={"model": model, "version": int(created.version), "run": run_id})
        return self.version(model, int(created.version))

    def models(self) -> list[str]:
        """Return the sorted names of all models."""
        if not store_exists(self._config):
            return []
        with refusals(self._config, "the list of models"):
            return sorted(model.name for model in self._client.search_registered_models(max_results=_PAGE))

    def versions(self, model: str) -> list[Version]:
        """Return the versions of a model registered by motserve, latest first.

        Raises:
            NotFound: There is no such model.
        """
        about = self._about(model)
        with refusals(self._config, f"the versions of {model}"):
            versions = self._client.search_model_versions(_named(model), max_results=_PAGE)
        ours = [read_version(version, about.aliases) for version in versions if is_ours(version)]
        return sorted(ours, key=lambda version: -version.number)

    def version(self, model: str, which: int | str) -> Version:
        """Return a version.

        Args:
            model: Name of the model.
            which: Its number, or an alias.

        Raises:
            NotFound: There is no such version.
        """
        about = self._about(model)
        number = which if str(which).isdigit() else about.aliases.get(str(which))
        if number is None:
            raise NotFound(f"no version of {model} is {which}: `motserve models promote {model} VERSION --to {which}`")
        try:
            return read_version(self._client.get_model_version(model, str(number)), about.aliases)
        except failures() as error:
            raise NotFound(without_credentials(f"{model} has no version {number}: {error}")) from error

    def promote(self, model: str, number: int, alias: Alias, *, force: bool = False, reason: str = "") -> Verdict:
        """Move an alias to a version, if it passes the gate.

        Args:
            model: Name of the model.
            number: The version.
            alias: The alias to move.
            force: Move it even if the gate fails; history and log record that it was forced.
            reason: Reason for the history.

        Returns:
            Result of the gate; the alias is moved if it passed or was forced.

        Raises:
            NotFound: There is no such version.
            Conflict: It is archived, or already has the alias.
        """
        version = self.version(model, number)
        if version.archived:
            raise Conflict(f"{model}/{number} is archived: `motserve models archive {model} {number} --undo` first")
        if alias in version.aliases:
            raise Conflict(f"{model}/{number} is already in {alias}")
        gate = self._gates.detector if version.role == "detector" else self._gates.reid
        verdict = judge(version.scores, self._present_scores(model, number), gate)
        if verdict.passed or force:
            self._move(model, alias, number, "promote" if verdict.passed else "force", reason)
        return verdict

    def rollback(self, model: str, alias: Alias, reason: str = "") -> Version:
        """Move an alias back to its previous version; a second rollback moves it one version further back.

        Raises:
            NotFound: There is no such model.
            Conflict: The history has no previous version, or it is archived.
        """
        present = self._about(model).aliases.get(alias)
        number = version_before(self.history(model), alias, int(present) if present else None)
        if number is None:
            raise Conflict(f"{model} has no earlier version in {alias}")
        before = self.version(model, number)
        if before.archived:
            raise Conflict(
                f"{before.uri} is archived: `motserve models archive {model} {before.number} --undo` first, or "
                "promote another"
            )
        self._move(model, alias, before.number, "rollback", reason)
        return self.version(model, before.number)

    def archive(self, model: str, number: int, undo: bool = False) -> None:
        """Archive a version, so that it can be neither promoted nor restored by a rollback.

        Raises:
            NotFound: There is no such version.
            Conflict: It has an alias, so a service may use it.
        """
        version = self.version(model, number)
        if version.aliases and not undo:
            raise Conflict(f"{version.uri} is in {' and '.join(version.aliases)}; promote another version first")
        with refusals(self._config, "the archiving"):
            self._client.set_model_version_tag(model, str(number), ARCHIVED, "false" if undo else "true")

    def add_scores(self, version: Version, scores: Iterable[Scores]) -> Version:
        """Add scores of a version on more data, or replace those on the same data."""
        with refusals(self._config, "the scores"):
            for key, value in score_tags(scores).items():
                self._client.set_model_version_tag(version.model, str(version.number), key, value)
        return self.version(version.model, version.number)

    def history(self, model: str) -> list[Move]:
        """Return the alias moves of a model, oldest first."""
        return read_history(self._about(model).tags.get(HISTORY, "[]"))

    def download(self, version: Version, folder: Path) -> Path:
        """Download the files of a version, and check them.

        Args:
            version: The version.
            folder: Target folder.

        Returns:
            The folder with the card and the weights, `folder` or one below it.

        Raises:
            WeightsUnavailable: They cannot be downloaded, or differ from the registered ones.
        """
        from mlflow.artifacts import download_artifacts

        with refusals(self._config, f"the files of {version.uri}", WeightsUnavailable):
            source = self._client.get_model_version_download_uri(version.model, str(version.number))
            path = download_artifacts(
                artifact_uri=source, dst_path=str(folder), tracking_uri=self._config.tracking_uri
            )  # fmt: skip
        card = read_card(Path(path))
        if card.sha256 != version.sha256:
            raise WeightsUnavailable(
                f"{version.uri} was changed since it was registered: its checksum was {version.sha256[:12]}…, "
                f"that of its files is {card.sha256[:12]}…"
            )
        return Path(path)

    def _present_scores(self, model: str, candidate: int) -> Mapping[str, Scores] | None:
        """Return the scores of the version in production; None if there is none besides the candidate."""
        present = self._about(model).aliases.get("production")
        if present is None or int(present) == candidate:
            return None
        # a version of another tool has no comparable scores
        return {version.number: version.scores for version in self.versions(model)}.get(int(present), {})

    @property
    def _client(self) -> Any:
        return connect(self._config)

    def _about(self, model: str) -> Any:
        if not store_exists(self._config):
            raise NotFound(f"there is no registry at {self._config.tracking_uri}")
        try:
            return self._client.get_registered_model(model)
        except failures() as error:
            message = f"the registry at {self._config.tracking_uri} has no model {model}: {error}"
            raise NotFound(without_credentials(message)) from error

    def _move(self, model: str, alias: Alias, after: int, way: Way, reason: str) -> None:
        about = self._about(model)
        before = about.aliases.get(alias)
        at = self._clock().isoformat(timespec="seconds")
        move = Move(at, alias, int(before) if before else None, after, way, user(), reason[:MOST_REASON])
        moves = [*self.history(model), move][-self._gates.history :]
        with refusals(self._config, f"the move of {alias}"):
            # the history first: a move without it could not be rolled back
            self._client.set_registered_model_tag(model, HISTORY, write_history(moves))
            self._client.set_registered_model_alias(model, alias, str(after))
        level = logging.WARNING if way == "force" else logging.INFO
        logger.log(level, "%s of %s moved: %s", alias, model, way, extra={"model": model, **asdict(move)})


def _named(model: str) -> str:
    """Return the MLflow filter for a model; other tools allow names with quotes."""
    quote = '"' if "'" in model else "'"
    return f"name = {quote}{model}{quote}"
