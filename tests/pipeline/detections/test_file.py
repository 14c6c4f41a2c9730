"""The file of a video's detections: what is read is what was written, and damage is computed again."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motserve.pipeline.detections.file import DetectionFile
from motserve.types import Detections

LIMIT = 1 << 20
NAMES = {0: "person", 7: "truck"}


def frame(number: int) -> Detections:
    count = number % 3
    boxes = (np.arange(4 * count).reshape(-1, 4) / 3 + number).astype(np.float32)
    return Detections(boxes, np.linspace(0.1, 0.9, count, dtype=np.float32), np.full(count, 7 * (number % 2)))


def chunk(start: int, count: int = 4) -> tuple[list[int], list[Detections]]:
    indices = list(range(start, start + count))
    return indices, [frame(index) for index in indices]


def write(path: Path, *starts: int) -> None:
    with DetectionFile(path, LIMIT) as file:
        file.begin(NAMES)
        for start in starts:
            file.append(*chunk(start))


def taken(path: Path, *starts: int) -> list[bool]:
    """Whether each of these chunks is in the file; its content is checked."""
    with DetectionFile(path, LIMIT) as file:
        found = [file.take(chunk(start)[0]) for start in starts]
    for start, detections in zip(starts, found, strict=True):
        if detections is not None:
            assert_equal(detections, chunk(start)[1])
    return [detections is not None for detections in found]


def assert_equal(some: Sequence[Detections], others: Sequence[Detections]) -> None:
    for one, other in zip(some, others, strict=True):
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_new_file_has_nothing_and_an_old_one_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with DetectionFile(path, LIMIT) as file:
        assert file.class_names is None
        assert file.take([0]) is None
    write(path, 0, 4)
    with DetectionFile(path, LIMIT) as file:
        assert file.class_names == NAMES
        file.begin({0: "other"})
        assert file.class_names == NAMES
    assert taken(path, 0, 4, 8) == [True, True, False]


def test_an_interrupted_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, 0)
    with DetectionFile(path, LIMIT) as file:
        assert file.take(chunk(0)[0]) is not None
        assert file.take(chunk(4)[0]) is None
        file.append(*chunk(4))
    assert taken(path, 0, 4) == [True, True]


def test_other_frames_replace_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, 0, 4, 8)
    with DetectionFile(path, LIMIT) as file:
        assert file.take(chunk(0)[0]) is not None
        assert file.take([4, 5]) is None
        assert file.take(chunk(8)[0]) is None
        file.append(*chunk(4))
    assert taken(path, 0, 4, 8) == [True, True, False]


@settings(deadline=None)  # a slow disk is no error
@given(data=st.data())
def test_a_cut_or_changed_file_gives_what_was_written_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("file") / "file"
    write(path, 0, 4)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(content[:place])
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
    found = taken(path, 0, 4)
    assert found in ([False, False], [True, False])
    with DetectionFile(path, LIMIT) as file:  # and it can be written again
        file.begin(NAMES)
        for start, is_there in zip((0, 4), found, strict=True):
            if file.take(chunk(start)[0]) is None:
                assert not is_there
                file.append(*chunk(start))
    assert taken(path, 0, 4) == [True, True]


def test_a_file_that_may_not_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write(path, 0)
    openings = Path.open

    def refuse(self: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        if "a" in mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return openings(self, mode, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)  # root may write to any file
    with DetectionFile(path, LIMIT) as file:
        assert file.take(chunk(0)[0]) is not None
        file.append(*chunk(4))
    assert taken(path, 0, 4) == [True, False]


def test_a_file_ends_before_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, 0)
    limit = path.stat().st_size + 10
    with DetectionFile(path, limit) as file:
        assert file.take(chunk(0)[0]) is not None
        file.append(*chunk(4))
        file.append([8], [frame(0)])
    assert path.stat().st_size <= limit
    assert taken(path, 0, 4) == [True, False]


def test_a_second_writer_only_reads(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, 0)
    with DetectionFile(path, LIMIT) as first, DetectionFile(path, LIMIT) as second:
        for file in (first, second):
            assert file.take(chunk(0)[0]) is not None
        second.append(*chunk(40))
        first.append(*chunk(4))
    assert taken(path, 0, 4) == [True, True]
