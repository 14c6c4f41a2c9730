"""Stored networks: read back as they were, made again where damaged, and the longest unused removed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from motserve.models.converted_networks import ConvertedNetworks, Graph

KEY = {"weights": "5e88"}
NETWORK = Graph(b"<net/>", bytes(range(256)) * 40, {"names": {"0": "person"}})


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_network_is_read_as_it_was_stored(tmp_path: Path) -> None:
    stored = ConvertedNetworks(tmp_path / "new")
    assert stored.load(KEY) is None
    stored.store(KEY, NETWORK)
    assert stored.load(KEY) == NETWORK
    assert stored.load({"weights": "other"}) is None
    assert len(files(tmp_path / "new")) == 1
    stored.forget(KEY)
    assert stored.load(KEY) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "something else"])
def test_a_damaged_file_is_not_read(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    stored = ConvertedNetworks(tmp_path)
    stored.store(KEY, NETWORK)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    middle = len(content) // 2
    damaged = {
        "empty": b"",
        "cut": content[:middle],
        "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "something else": b"no archive" * 99,
    }
    path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert stored.load(KEY) is None
    assert "is damaged and made again" in caplog.text
    stored.store(KEY, NETWORK)
    assert stored.load(KEY) == NETWORK


def test_no_changed_bit_raises(tmp_path: Path) -> None:
    stored = ConvertedNetworks(tmp_path)
    small = Graph(b"<net/>", bytes(range(64)), {"stride": 32})
    stored.store(KEY, small)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    for index in range(len(content)):
        for bit in (1, 8, 128):
            path.write_bytes(content[:index] + bytes([content[index] ^ bit]) + content[index + 1 :])
            assert stored.load(KEY) in (None, small)


def test_a_folder_that_cannot_exist_has_no_networks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    stored = ConvertedNetworks(tmp_path / "file" / "openvino")
    assert stored.load(KEY) is None
    assert not stored.is_writable()
    assert "damaged" not in caplog.text
    assert ConvertedNetworks(tmp_path / "new" / "openvino").is_writable()
    assert not (tmp_path / "new").exists()


def test_files_of_killed_writers_are_removed_a_day_later(tmp_path: Path) -> None:
    stored = ConvertedNetworks(tmp_path)
    young, old = tmp_path / ".a.network.x.part", tmp_path / ".b.network.y.part"
    for path in (young, old):
        path.touch()
    os.utime(old, (0, 0))
    stored.store(KEY, NETWORK)
    assert young.exists()
    assert not old.exists()


def test_a_refusal_has_its_reason(tmp_path: Path) -> None:
    stored = ConvertedNetworks(tmp_path)
    assert stored.refusal(KEY) is None
    stored.refuse(KEY, "boxes differ" * 1000)
    assert (stored.refusal(KEY) or "").startswith("boxes differ")
    assert len(stored.refusal(KEY) or "") < 3000
    assert stored.load(KEY) is None


def test_the_longest_unused_are_removed(tmp_path: Path) -> None:
    stored = ConvertedNetworks(tmp_path, max_bytes=3 * 11_000)
    (tmp_path / "other").write_bytes(b"not ours")
    for number in range(3):
        stored.store({"weights": number}, NETWORK)
    for age, path in enumerate(sorted(tmp_path.glob("*.network"))):
        os.utime(path, (age, age))
    assert stored.load({"weights": 0}) == NETWORK  # used now
    stored.store({"weights": 3}, NETWORK)
    assert stored.load({"weights": 0}) == stored.load({"weights": 3}) == NETWORK
    assert len(list(tmp_path.glob("*.network"))) == 3
    assert (tmp_path / "other").exists()


def test_a_large_network_is_kept_until_the_next(tmp_path: Path) -> None:
    stored = ConvertedNetworks(tmp_path, max_bytes=10)
    stored.store(KEY, NETWORK)
    assert stored.load(KEY) == NETWORK
    stored.store({"weights": "next"}, NETWORK)
    assert stored.load(KEY) is None


def test_a_folder_that_cannot_be_written_stores_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    stored = ConvertedNetworks(tmp_path / "file" / "folder")
    stored.store(KEY, NETWORK)
    stored.refuse(KEY, "reason")
    assert caplog.text.count("is not stored, and made again at the next start") == 2
    assert stored.load(KEY) is None
    assert stored.refusal(KEY) is None
