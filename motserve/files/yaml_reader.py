"""Reads YAML from outside: refuses duplicate keys and expanding aliases, and raises one kind of error.

PyYAML silently takes the last of two equal keys, so that an earlier setting is lost; and aliases let a file of a few
lines expand beyond the memory ("billion laughs").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

_MOST_BYTES: Final = 16 << 20
"""Largest file in bytes; settings have kilobytes, lists of a data set a few megabytes."""

_MOST_REPEATED: Final = 10_000
"""Largest number of values that aliases may add to those that are written out."""

# A path on the command line may contain bytes that are not UTF-8, as surrogates, which YAML documents do not allow.
_HIDDEN: Final = {0xDC00 + byte: 0x10FE00 + byte for byte in range(0x80, 0x100)}
_RESTORED: Final = {private: surrogate for surrogate, private in _HIDDEN.items()}


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Args:
        path: The file, UTF-8.

    Returns:
        The document; None for an empty file.

    Raises:
        OSError: The file cannot be read.
        yaml.YAMLError: It is too large, is not UTF-8 text or YAML, or contains what `parse_yaml` refuses.
    """
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)  # not its stated size: a device has none and may be endless
    if len(data) > _MOST_BYTES:
        raise yaml.YAMLError(f"it is larger than {_MOST_BYTES >> 20} MiB")
    try:
        return parse_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise yaml.YAMLError(f"it is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from error


def parse_yaml(text: str) -> Any:
    """Read a YAML document.

    >>> parse_yaml("{a: 1, b: [2, 3]}")
    {'a': 1, 'b': [2, 3]}

    Raises:
        yaml.YAMLError: It is not YAML, a mapping has a key twice, or aliases make it much larger than written.
    """
    hidden = text.translate(_HIDDEN)
    try:
        tree = yaml.load(hidden, Loader=_Loader)
        return tree if hidden == text else _restored(tree)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except (ValueError, TypeError, AttributeError) as error:  # a value does not match its tag or form
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error


def _restored(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree.translate(_RESTORED)
    if isinstance(tree, dict):
        return {_restored(key): _restored(value) for key, value in tree.items()}
    return [_restored(value) for value in tree] if isinstance(tree, list) else tree


class _Loader(yaml.SafeLoader):
    """Checks the document before objects are built from it."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _Check().size_of(node, ())
        return node


class _Check:
    """Visits each node of a document once, however often aliases repeat it."""

    def __init__(self) -> None:
        self._sizes: dict[yaml.Node, int] = {}
        self._open: set[yaml.Node] = set()

    def size_of(self, node: yaml.Node, place: tuple[str, ...]) -> int:
        """Return the number of values below a node, with aliases expanded.

        Args:
            node: The node.
            place: The keys that lead to it.

        Raises:
            yaml.YAMLError: It contains itself, a key twice, or too many values.
        """
        if node in self._open:
            raise yaml.YAMLError(f"line {_line(node)}: a value holds itself by an alias")
        if node not in self._sizes:
            self._open.add(node)
            self._sizes[node] = 1 + sum(
                self.size_of(child, (*place, key)) for key, child in self._children(node, place)
            )
            self._open.remove(node)
        if self._sizes[node] > len(self._sizes) + _MOST_REPEATED:
            raise yaml.YAMLError(f"line {_line(node)}: aliases repeat more than {_MOST_REPEATED} values")
        return self._sizes[node]

    def _children(self, node: yaml.Node, place: tuple[str, ...]) -> list[tuple[str, yaml.Node]]:
        if isinstance(node, yaml.SequenceNode):
            return [(str(number), child) for number, child in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return []
        lines: dict[tuple[str, str], int] = {}
        children = []
        for key, child in node.value:
            if isinstance(key, yaml.ScalarNode):
                name = (str(key.tag), str(key.value))
                if name in lines:
                    where = ".".join((*place, key.value))
                    first, second = lines[name], _line(key)
                    lines_of = f"in line {first}" if first == second else f"in lines {first} and {second}"
                    raise yaml.YAMLError(f"the key {where} is given twice, {lines_of}")
                lines[name] = _line(key)
            else:
                children.append(("?", key))
            children.append((str(key.value) if isinstance(key, yaml.ScalarNode) else "?", child))
        return children


def _line(node: yaml.Node) -> int:
    mark = node.start_mark
    return 1 + mark.line if mark is not None else 0
