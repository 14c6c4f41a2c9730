from __future__ import annotations

import doctest
import json
import os

import pytest

from motserve.files import disk, names, yaml_reader
from motserve.files.names import encodable, readable, to_json

LATIN = os.fsdecode(b"caf\xe9.mp4")


@pytest.mark.parametrize("module", [names, yaml_reader, disk])
def test_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (LATIN, r"caf\xe9.mp4"),
        ("café.mp4", "café.mp4"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("gpj.\u202emoc", r"gpj.\u202emoc"),
        ("\ud800", r"\ud800"),
        ("\x85", r"\u0085"),
    ],
)
def test_a_name_is_shown_on_one_line_of_visible_characters(given: str, shown: str) -> None:
    assert readable(given) == shown
    shown.encode()


def test_two_names_that_differ_in_a_byte_are_shown_differently() -> None:
    assert readable(os.fsdecode(b"\xe8")) != readable(os.fsdecode(b"\xe9"))


def test_a_document_may_contain_any_name() -> None:
    document = {LATIN: [LATIN, 1, {"lines": "a\nb", "nested": (LATIN,)}]}
    assert json.loads(to_json(document)) == {
        r"caf\xe9.mp4": [r"caf\xe9.mp4", 1, {"lines": "a\nb", "nested": ["caf\\xe9.mp4"]}]
    }
    assert encodable({"a": 1.5}) == {"a": 1.5}


def test_other_types_are_still_refused_by_json() -> None:
    with pytest.raises(TypeError):
        to_json({"a": object()})
