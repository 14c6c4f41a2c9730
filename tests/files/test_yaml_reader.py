from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli_checks import Motserve, assert_error

from motserve.config import DetectorConfig, load_config, parse_overrides
from motserve.config.loading.yaml_files import read_settings
from motserve.errors import InvalidConfig, InvalidData, MotserveError
from motserve.files.yaml_reader import parse_yaml, read_yaml
from motserve.lab.evaluation.yolo_data import read_yolo

LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "the key b.c is given twice, in lines 3 and 5"),
        ("- {x: 1}\n- {x: 1, x: 2}\n", "the key 1.x is given twice, in line 2"),
        ("x: 1\n'x': 2\n", "the key x is given twice, in lines 1 and 2"),
        (LAUGHS, "aliases repeat more than"),
        ("&a [*a]", "holds itself"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!timestamp x", "a value cannot be read"),
        ("a: " + "9" * 5000, "a value cannot be read"),
        ("a: 2024-13-45", "a value cannot be read"),
        ("a: !!python/object/apply:os.system [x]", "constructor"),
        ("a: 'x\0'", "special characters"),
    ],
)
def test_unsafe_documents_are_refused(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message):
        parse_yaml(text)


def test_valid_documents_are_read(tmp_path: Path) -> None:
    assert parse_yaml("") is None
    assert parse_yaml("{a: {x: 1}, b: {x: 1}}") == {"a": {"x": 1}, "b": {"x": 1}}
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: *a") == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 1}}
    assert parse_yaml("{1: a, '1': b}") == {1: "a", "1": "b"}
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "bom.yaml") == {"a": 1}


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="larger than"):
        read_yaml(Path("/dev/zero"))


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: caf\xe9")
    with pytest.raises(yaml.YAMLError, match="byte 6 is 0xe9"):
        read_yaml(tmp_path / "a.yaml")


TWICE = "confidence: 0.1\nconfidence: 0.2\n"


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda path: load_config([path]), InvalidConfig),
        (lambda path: read_settings(path, DetectorConfig), InvalidConfig),
        (lambda path: read_yolo(path, "val"), InvalidData),
    ],
    ids=["a layer", "settings", "a data set"],
)
def test_every_reader_names_file_key_and_lines(
    tmp_path: Path, read: Callable[[Path], object], kind: type[MotserveError]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TWICE)
    with pytest.raises(kind, match=r"a\.yaml.*the key confidence is given twice, in lines 1 and 2"):
        read(path)


def test_duplicate_keys_in_candidates_and_overrides_are_named(motserve: Motserve) -> None:
    Path("c.yaml").write_text("a: {detector: {half: true}}\na: {}\n")
    compared = motserve("compare", "detectors", "--gt", "gt", "--candidates", "c.yaml")
    assert_error(compared, 2, "c.yaml", "the key a is given twice, in lines 1 and 2")
    Path("serve.yaml").write_text("applications: []\napplications: []\n")
    assert_error(motserve("demo", "--serve-config", "serve.yaml"), 2, "serve.yaml", "lines 1 and 2")
    with pytest.raises(InvalidConfig, match="confidence is given twice"):
        parse_overrides(["detector={confidence: 1, confidence: 0}"])
