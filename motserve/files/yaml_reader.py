"""Reads YAML from outside: no key twice, no document that grows when it is used, no kind of error but one.

PyYAML takes the last of two equal keys without a word, so that a setting far above is lost; and its aliases let a file
of a few lines stand for more than the memory holds ("billion laughs").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

_MOST_BYTES: Final = 16 << 20
"""Largest file that is read; settings have kilobytes, lists of a data set a few megabytes."""

_MOST_REPEATED: Final = 10_000
"""Values that aliases may stand for, besides those that are written down."""

# A path on the command line may hold bytes that are not UTF-8, as surrogates, which YAML does not allow in a document.
_HIDDEN: Final = {0xDC00 + byte: 0x10FE00 + byte for byte in range(0x80, 0x100)}
_RESTORED: Final = {private: surrogate for surrogate, private in _HIDDEN.items()}


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Args:
        path: The file, UTF-8.

    Returns:
        What it holds; None for an empty one.

    Raises:
        OSError: It cannot be read.
        yaml.YAMLError: It is too large, no text, no YAML, or has what `parse_yaml` refuses.
    """
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)  # not the size that it tells: a device has none, and no end
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
        yaml.YAMLError: It is no YAML, a mapping has a key twice, or aliases make it far larger than it is written.
    """
    hidden = text.translate(_HIDDEN)
    try:
        tree = yaml.load(hidden, Loader=_Loader)
        return tree if hidden == text else _restored(tree)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except (ValueError, TypeError, AttributeError) as error:  # of a value that its tag or form promises and is not
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error


def _restored(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree.translate(_RESTORED)
    if isinstance(tree, dict):
        return {_restored(key): _restored(value) for key, value in tree.items()}
    return [_restored(value) for value in tree] if isinstance(tree, list) else tree


class _Loader(yaml.SafeLoader):
    """Looks at the document before anything is made of it."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _Check().size_of(node, ())
        return node


class _Check:
    """Walks through a document once, however often its parts are repeated by aliases."""

    def __init__(self) -> None:
        self._sizes: dict[yaml.Node, int] = {}
        self._open: set[yaml.Node] = set()

    def size_of(self, node: yaml.Node, place: tuple[str, ...]) -> int:
        """Return how many values a part of the document stands for, aliases written out.

        Args:
            node: The part.
            place: The keys that lead to it.

        Raises:
            yaml.YAMLError: It holds itself, a key twice, or too many values.
        """
        if node in self._open:
            raise yaml.YAMLError(f"line {_line(node)}: a value holds itself by an alias")
        if node not in self._sizes:
            self._open.add(node)
            self._sizes[node] = 1 + sum(self.size_of(part, (*place, key)) for key, part in self._parts(node, place))
            self._open.remove(node)
        if self._sizes[node] > len(self._sizes) + _MOST_REPEATED:
            raise yaml.YAMLError(f"line {_line(node)}: aliases repeat more than {_MOST_REPEATED} values")
        return self._sizes[node]

    def _parts(self, node: yaml.Node, place: tuple[str, ...]) -> list[tuple[str, yaml.Node]]:
        if isinstance(node, yaml.SequenceNode):
            return [(str(number), part) for number, part in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return []
        lines: dict[tuple[str, str], int] = {}
        parts = []
        for key, part in node.value:
            if isinstance(key, yaml.ScalarNode):
                name = (str(key.tag), str(key.value))
                if name in lines:
                    where = ".".join((*place, key.value))
                    first, second = lines[name], _line(key)
                    place_of = f"in line {first}" if first == second else f"in lines {first} and {second}"
                    raise yaml.YAMLError(f"the key {where} is given twice, {place_of}")
                lines[name] = _line(key)
            else:
                parts.append(("?", key))
            parts.append((str(key.value) if isinstance(key, yaml.ScalarNode) else "?", part))
        return parts


def _line(node: yaml.Node) -> int:
    mark = node.start_mark
    return 1 + mark.line if mark is not None else 0
