from __future__ import annotations

from pathlib import Path

import pytest
from dataset_copies import small_catalogue, write_crowdhuman, write_market, write_mot17

from motserve.lab.datasets import prepare


@pytest.fixture
def published_catalogue() -> None:
    """Keep the published sizes of the data sets; without it tests have small ones."""


@pytest.fixture(autouse=True)
def _small_catalogue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "published_catalogue" not in request.fixturenames:
        small_catalogue(monkeypatch)


@pytest.fixture
def mot17(tmp_path: Path) -> Path:
    """A complete small MOT17."""
    write_mot17(tmp_path / "MOT17")
    return tmp_path / "MOT17"


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """A complete small Market-1501; one file name has the form of DukeMTMC-reID."""
    write_market(tmp_path / "Market-1501-v15.09.15")
    return tmp_path / "Market-1501-v15.09.15"


@pytest.fixture
def crowdhuman(tmp_path: Path) -> Path:
    """A complete small CrowdHuman in the folders of its archives."""
    write_crowdhuman(tmp_path / "CrowdHuman")
    return tmp_path / "CrowdHuman"


@pytest.fixture
def prepared_mot17(mot17: Path, tmp_path: Path) -> Path:
    """Output folder of the prepared small MOT17."""
    prepare("mot17", mot17, tmp_path / "out")
    return tmp_path / "out"
