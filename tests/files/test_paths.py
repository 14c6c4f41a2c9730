from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import typer
from cli_checks import Motserve, assert_error, assert_usage
from typer.models import ParameterInfo

from motserve.cli.lazy import load_application
from motserve.cli.main import COMMANDS
from motserve.cli.paths import read_path
from motserve.config import Config, change_config, load_config, parse_overrides
from motserve.config.paths import local_path
from motserve.errors import InvalidConfig
from motserve.serving.arguments import ServeArgs

NOBODY = "~no-such-user/x"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_home_folders_are_expanded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_path("~") == home
    assert local_path("~/a b") == local_path(Path("~/a b")) == home / "a b"
    assert local_path("~root/x") == Path("~root").expanduser() / "x"
    assert local_path("a/~b") == Path("a/~b")
    assert local_path(os.fsdecode(b"caf\xe9")) == Path(os.fsdecode(b"caf\xe9"))


def test_a_file_named_like_a_home_folder_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = local_path("./~x")
    assert path == tmp_path / "~x"
    assert local_path(path) == path  # configurations are checked more than once


@pytest.mark.parametrize(("text", "message"), [("", "empty"), ("a\0b", "zero byte"), (NOBODY, "write ./~no-such-user")])
def test_invalid_paths_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        local_path(text)


def test_every_path_of_the_configuration_is_expanded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a.yaml").write_text("models_dir: ~/models\nserving: {storage_dir: ~/data, allowed_roots: [~/in]}\n")
    monkeypatch.setenv("MOTSERVE_CACHE_DIR", "~/cache")
    values = (
        "reid.weights=~/r.onnx",
        "linking={weights: ~/l.safetensors}",
        "mlflow.tracking_uri='sqlite:///~/m.db?a=1'",
    )
    config = load_config(["~/a.yaml"], parse_overrides([*values, "mlflow.artifact_dir=~/art"]))
    assert (config.models_dir, config.cache_dir) == (home / "models", home / "cache")
    assert (config.serving.storage_dir, config.serving.allowed_roots) == (home / "data", (home / "in",))
    assert config.reid.weights == (f"{home}/r.onnx",)
    assert config.linking is not None
    assert config.linking.weights == f"{home}/l.safetensors"
    assert (config.mlflow.tracking_uri, config.mlflow.artifact_dir) == (f"sqlite:///{home}/m.db?a=1", f"{home}/art")
    assert change_config(config, {}) == config
    assert ServeArgs(config=["~/a.yaml"]).config == [home / "a.yaml"]
    assert Config().cache_dir == home / ".cache" / "motserve"


@pytest.mark.parametrize(
    "setting", [f"models_dir={NOBODY}", f"detector.weights=[a.pt, {NOBODY}]", f"mlflow.tracking_uri=sqlite:///{NOBODY}"]
)
def test_an_unknown_user_is_named_with_the_key(setting: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"{setting.partition('=')[0]}.*~no-such-user is not a home folder"):
        load_config([], parse_overrides([setting]))


def parameters(commands: typer.Typer) -> Iterator[tuple[Any, ParameterInfo]]:
    for command in commands.registered_commands:
        hints: dict[str, Any] = getattr(command.callback, "__annotations__", {})
        for hint in hints.values():
            if get_origin(hint) is Annotated:
                yield from ((get_args(hint)[0], info) for info in hint.__metadata__ if isinstance(info, ParameterInfo))
    for group in commands.registered_groups:
        assert group.typer_instance is not None
        yield from parameters(group.typer_instance)


def test_every_path_of_every_command_has_the_same_parser() -> None:
    applications = [load_application(name, place) for name, place in COMMANDS.items()]
    found = [info.parser for one in applications for kind, info in parameters(one) if "Path" in str(kind)]
    assert len(found) > 40
    assert set(found) == {read_path}


def test_the_command_line_expands_paths(motserve: Motserve, home: Path) -> None:
    (home / "c.yaml").write_text("detector: {confidence: 0.25}")
    assert "confidence: 0.25" in motserve("config", "show", "--config=~/c.yaml").stdout
    result = motserve("benchmark", "identities", "--identities", "2", "--json=~/new/rows.json")
    assert result.exit_code == 0, result.output
    assert (home / "new" / "rows.json").is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize(("word", "message"), [("", "a path cannot be empty"), (NOBODY, "is not a home folder")])
def test_an_invalid_path_is_a_usage_error(motserve: Motserve, word: str, message: str) -> None:
    assert_usage(motserve("track", word), message)
    assert_usage(motserve("track", "a.mp4", "--output", word), message)


@pytest.mark.parametrize(
    ("address", "shown", "message"),
    [
        ("rtsp://ann:secret@cam.local/live", "rtsp://cam.local/live: ", "live streams are not supported yet"),
        ("RTSP://cam.local/live", "RTSP://cam.local/live: ", "live streams are not supported yet"),
        (
            "rtsp://cam/?user=a&password=secret",
            "rtsp://cam/?user=a&password=***: ",
            "live streams are not supported yet",
        ),
        ("ftp://host/a.mp4?token=secret&sig=secret", "ftp://host/a.mp4?token=***&sig=***: ", "download the file"),
        ("file:///srv/a.mp4", "file:///srv/a.mp4: ", "give the path itself, /srv/a.mp4"),
    ],
)
def test_an_address_is_not_a_path_and_its_secrets_are_hidden(
    motserve: Motserve, address: str, shown: str, message: str
) -> None:
    result = motserve("track", address)
    assert_error(result, 2, shown, message)
    assert "secret" not in result.stderr
    assert_error(motserve("track", "a.mp4", "--output", address), 2, shown)


def test_a_file_may_be_named_like_an_address(motserve: Motserve) -> None:
    Path("rtsp:/host").mkdir(parents=True)
    assert_error(motserve("track", "rtsp://host"), 3, "no images")
