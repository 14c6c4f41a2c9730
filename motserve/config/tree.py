"""The configuration tree and the layers that it is built from.

Layers, later ones win: the defaults in the sections, YAML files in the order given, environment variables
(`MOTSERVE_DETECTOR__WEIGHTS=…`), explicit overrides (`--set detector.weights=…`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from motserve.config.detector import DetectorConfig
from motserve.config.disk import DiskConfig
from motserve.config.evaluation import EvaluationConfig, MlflowConfig, TuningConfig
from motserve.config.loading.yaml_files import merge, read_tree
from motserve.config.logs import LoggingConfig
from motserve.config.paths import LocalPath, local_path
from motserve.config.postprocessing import InterpolationConfig, LinkingConfig, RegroupingConfig
from motserve.config.registry import RegistryConfig
from motserve.config.reid import ReIDConfig
from motserve.config.serving import ServingConfig
from motserve.config.tracker import AnyTracker, BotSortConfig, ByteTrackConfig, StrongSortConfig, needs_embeddings
from motserve.config.tracker_parts import CameraConfig
from motserve.config.video import PipelineConfig, VideoConfig
from motserve.errors import InvalidConfig
from motserve.files.yaml_reader import parse_yaml

ENV_PREFIX = "MOTSERVE_"
NESTING = "__"
Layer: TypeAlias = str | Path | Mapping[str, Any]
"""A part of the configuration: a YAML file or a mapping."""

_OTHER_VARIABLES = frozenset({"MOTSERVE_DATA"})
"""Variables with the prefix that are no settings: the folder of real data for tests."""


class Config(BaseSettings):
    """The configuration tree."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, validate_default=True, env_prefix=ENV_PREFIX, env_nested_delimiter=NESTING
    )

    models_dir: LocalPath = Field(Path("models"), description="Folder that is searched first for weights by name.")
    cache_dir: LocalPath = Field(
        Path("~/.cache/motserve"),
        description="Folder for downloaded weights and cached detections; `~` is the home folder.",
    )
    detector: DetectorConfig = Field(DetectorConfig(), description="Object detector.")
    tracker: AnyTracker = Field(ByteTrackConfig(), description="Tracker.")
    reid: ReIDConfig = Field(ReIDConfig(), description="Re-identification.")
    regrouping: RegroupingConfig | None = Field(
        None,
        description="Merging of identities with similar appearance in the tracks of whole files; null for none. "
        "Nothing is merged with `reid.policy` `off`, nor by the service.",
    )
    linking: LinkingConfig | None = Field(
        None,
        description="Merging of identities by motion in the tracks of whole files; null for none. The service merges "
        "none.",
    )
    interpolation: InterpolationConfig | None = Field(
        None, description="Filling of gaps in the tracks of whole files; null for none. The service fills none."
    )
    video: VideoConfig = Field(VideoConfig(), description="Video input and output.")
    pipeline: PipelineConfig = Field(PipelineConfig(), description="Flow of frames.")
    disk: DiskConfig = Field(DiskConfig(), description="Free space on disks.")
    serving: ServingConfig = Field(ServingConfig(), description="The service.")
    logging: LoggingConfig = Field(LoggingConfig(), description="Logs.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Evaluation of models.")
    tuning: TuningConfig = Field(TuningConfig(), description="Search for parameters of the tracker.")
    mlflow: MlflowConfig = Field(MlflowConfig(), description="Logging of runs and the model registry.")
    registry: RegistryConfig = Field(RegistryConfig(), description="Scores that a model must reach to be promoted.")

    @property
    def needs_embeddings(self) -> bool:
        """Whether embeddings are needed, for the tracker or for identities above it."""
        return self.reid.policy != "off" or needs_embeddings(self.tracker)

    @property
    def camera(self) -> CameraConfig | None:
        """How the camera motion is estimated for the tracker; None where the tracker does not use it."""
        return self.tracker.camera if isinstance(self.tracker, BotSortConfig | StrongSortConfig) else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read no files and no environment: `load_config` combines the layers."""
        return (init_settings,)


class _Environment(EnvSettingsSource):
    """Environment variables, their values read as YAML like those of `--set`."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return _parse(value, f"the environment variable {ENV_PREFIX}…{field_name.upper()}")


def load_config(layers: Layer | Sequence[Layer] = (), overrides: Mapping[str, object] | None = None) -> Config:
    """Build the configuration from its layers.

    Args:
        layers: Parts of the tree, as YAML files or as mappings; later ones win. A single one needs no list.
        overrides: A part of the tree that wins over layers and environment.

    Returns:
        The checked configuration.

    Raises:
        InvalidConfig: A file cannot be read, a key is unknown or a value out of its bounds.
    """
    tree: dict[str, Any] = {}
    for layer in layers if isinstance(layers, Sequence) and not isinstance(layers, str) else [layers]:
        tree = merge_layers(tree, read_layer(layer))
    _refuse_unknown_variables()
    tree = merge_layers(tree, _Environment(Config)())
    tree = merge_layers(tree, overrides or {})
    return _validated(tree)


def read_layer(layer: Layer) -> Mapping[str, Any]:
    """Return a layer as a mapping.

    Raises:
        InvalidConfig: It is a file that cannot be read, or neither a file nor a mapping.
    """
    if isinstance(layer, Mapping):
        return layer
    if not isinstance(layer, str | Path):
        raise InvalidConfig(f"a layer of the configuration must be a YAML file or a mapping, not {layer!r:.80}")
    try:
        path = local_path(layer)
    except ValueError as error:
        raise InvalidConfig(str(error)) from error
    return read_tree(path)


def change_config(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a configuration with some of its keys changed; files and environment are not read again.

    Args:
        config: The configuration.
        changes: A part of the tree.

    Raises:
        InvalidConfig: A key is unknown or a value out of its bounds.
    """
    return _validated(merge_layers(config.model_dump(), changes))


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn `section.key=value` texts into a nested tree; values are read as YAML.

    >>> parse_overrides(["detector.weights=a.pt", "tracker.lost_buffer_s=2"])
    {'detector': {'weights': 'a.pt'}, 'tracker': {'lost_buffer_s': 2}}

    Raises:
        InvalidConfig: A text has no `=` or no key, or its value is not YAML.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise InvalidConfig(f"override {assignment!r} is not of the form section.key=value")
        nested: Any = _parse(value, key)
        for part in reversed(parts):
            nested = {part: nested}
        tree = merge_layers(tree, nested)
    return tree


def merge_layers(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one part of the configuration over another; a tracker of another name replaces the lower one."""
    return merge(below, above, _is_another_tracker)


def _validated(tree: Mapping[str, Any]) -> Config:
    # pydantic-settings takes names such as `_env_file` as its own options
    unknown = [str(key) for key in tree if key not in Config.model_fields]
    if unknown:
        raise InvalidConfig(
            f"configuration not valid: {', '.join(unknown)}: no such section; "
            f"sections are {', '.join(sorted(Config.model_fields))}"
        )
    try:
        return Config(**tree)
    except ValidationError as error:
        lines = "; ".join(f"{_key(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        raise InvalidConfig(
            f"configuration not valid: {lines}. `motserve config schema` lists every key with its bounds."
        ) from error


def _parse(text: str, where: str) -> Any:
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise InvalidConfig(f"the value of {where} is not YAML: {text!r} ({error})") from error


def _is_another_tracker(key: str, below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Return whether two layers name different trackers; the keys of the lower one are then dropped.

    Keys of a layer without a name belong to the tracker that is named in the end; it refuses those it does not have.
    """
    return key == "tracker" and "name" in below and "name" in above and bool(below["name"] != above["name"])


def _key(place: tuple[int | str, ...]) -> str:
    """Return the key of an error; pydantic puts the tracker's name into its place."""
    if place[:1] == ("tracker",) and len(place) > 1:
        return f"{'.'.join(map(str, (place[0], *place[2:])))} of {place[1]}"
    return ".".join(map(str, place)) or "config"


def _refuse_unknown_variables() -> None:
    """Refuse misspelt variables, which pydantic would ignore."""
    for name in os.environ:
        section = name.removeprefix(ENV_PREFIX).lower().partition(NESTING)[0]
        if name.startswith(ENV_PREFIX) and name not in _OTHER_VARIABLES and section not in Config.model_fields:
            raise InvalidConfig(
                f"environment variable {name} names no section of the configuration; "
                f"sections are {', '.join(sorted(Config.model_fields))}"
            )
