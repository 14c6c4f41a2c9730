"""Escapes texts from outside, mainly file names, for messages and documents.

A file name is bytes; Python represents bytes that are not UTF-8 as lone surrogates, which JSON, SQLite and terminals
refuse. Files are opened by their original name; text about them is escaped by this module.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_BYTES = range(0xDC80, 0xDD00)
"""Surrogates that represent one byte each (PEP 383)."""

_SURROGATES = re.compile("[\ud800-\udfff]")
# Besides surrogates: control characters, which move the cursor of a terminal or break a line, and marks that change
# the writing direction, which can disguise a name as another one.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def readable(text: object) -> str:
    r"""Return a text on one line, with invisible characters escaped.

    Args:
        text: A name, a path or a message.

    >>> readable(b"caf\xe9.mp4".decode(errors="surrogateescape")), readable("two\nlines")
    ('caf\\xe9.mp4', 'two\\nlines')
    """
    return _HIDDEN.sub(_escape, str(text))


def encodable(tree: Any) -> Any:
    r"""Return a text, or a tree of texts, with lone surrogates escaped so that it can be encoded as UTF-8.

    Args:
        tree: A text, or mappings, lists and tuples of texts. Other values are unchanged.

    >>> encodable({"name": "caf\udce9", "frames": 3})
    {'name': 'caf\\xe9', 'frames': 3}
    """
    if isinstance(tree, str):
        return _SURROGATES.sub(_escape, tree)
    if isinstance(tree, dict):
        return {encodable(key): encodable(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [encodable(value) for value in tree]
    return tree


def to_json(document: Any, option: int = 0) -> bytes:
    """Return a document as JSON; names that are not UTF-8 are escaped as in `readable`.

    Args:
        document: A document for `orjson.dumps`, with any texts.
        option: Options of `orjson.dumps`.
    """
    try:
        return orjson.dumps(document, option=option)
    except TypeError:  # raised for a lone surrogate; other documents are encoded in one pass
        return orjson.dumps(encodable(document), option=option)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code in _BYTES:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
