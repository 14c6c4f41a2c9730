from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from motserve.cli import app
from motserve.cli.options import read_candidates
from motserve.config import load_config
from motserve.config.loading.shipped import SERVE_CONFIG, config_file, serve_config_file, shipped_names
from motserve.config.loading.yaml_files import read_tree
from motserve.errors import InvalidConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_configuration_of_the_repository_has_a_name() -> None:
    files = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in ROOT.glob("configs/**/*.yaml")}
    assert set(shipped_names()) == files
    assert {"tracker/botsort", "training/detector", "reid"} <= files


@pytest.mark.parametrize("name", shipped_names())
def test_each_name_is_found_outside_a_checkout(name: str) -> None:
    assert read_tree(Path(name)) == read_tree(ROOT / "configs" / f"{name}.yaml")


def test_names_stand_for_files_on_the_command_line() -> None:
    assert load_config(["tracker/botsort"]).tracker.name == "botsort"
    shown = CliRunner().invoke(app, ["config", "show", "--config", "tracker/botsort"])
    assert shown.exit_code == 0
    assert "botsort" in shown.output
    assert read_candidates(Path("compare/detectors"), load_config(), ["detector"])


def test_a_file_wins_over_a_name_and_a_folder_does_not(tmp_path: Path) -> None:
    (tmp_path / "tracker" / "botsort").mkdir(parents=True)
    assert load_config(["tracker/botsort"]).tracker.name == "botsort"
    (tmp_path / "tracker" / "botsort").rmdir()
    (tmp_path / "tracker" / "botsort").write_text("tracker: {name: sort}")
    assert load_config(["tracker/botsort"]).tracker.name == "sort"


@pytest.mark.parametrize(
    ("name", "listed", "not_listed"),
    [
        ("tracker/botsrot", "tracker/botsort, tracker/bytetrack", "training/"),
        ("tracker", "tracker/botsort, tracker/bytetrack", "training/"),
        ("nothing", "tracker/botsort", "__"),
        ("../serve_config", "tracker/botsort", "__"),
        ("tracker/../reid", "tracker/botsort", "training/"),
    ],
)
def test_a_wrong_name_lists_what_exists(name: str, listed: str, not_listed: str) -> None:
    with pytest.raises(InvalidConfig, match="is neither a file nor the name of a configuration") as raised:
        load_config([name])
    assert listed in str(raised.value)
    assert not_listed not in str(raised.value)


@pytest.mark.parametrize("path", ["reid.yaml", "tracker/botsort.yaml", "/tracker/botsort", "n" * 300])
def test_a_missing_file_is_not_replaced_by_a_shipped_one(path: str) -> None:
    with pytest.raises(InvalidConfig, match="cannot read configuration file"):
        load_config([path])


def test_a_command_with_a_wrong_name_ends_with_one_line() -> None:
    done = CliRunner().invoke(app, ["config", "show", "--config", "tracker/botsrot"])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1


def test_the_serve_configuration_is_that_of_the_folder_else_the_shipped_one(tmp_path: Path) -> None:
    assert serve_config_file(None) == SERVE_CONFIG
    assert SERVE_CONFIG.read_bytes() == (ROOT / "serve_config.yaml").read_bytes()
    (tmp_path / "serve_config.yaml").touch()
    assert serve_config_file(None) == Path("serve_config.yaml")
    assert serve_config_file(Path("other.yaml")) == Path("other.yaml")


def test_the_example_of_the_documentation() -> None:
    assert config_file(Path("tracker/botsort")).name == "botsort.yaml"
