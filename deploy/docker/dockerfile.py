"""Parses a Dockerfile into stages and instructions; it supports the part of the language that this project uses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage.

    Attributes:
        name: In capitals, such as `RUN`.
        value: The text after the flags, on one line.
        flags: Values of each `--flag`; a flag may be given several times.
        line: First line in the file, counted from 1.
    """

    name: str
    value: str
    flags: Mapping[str, list[str]]
    line: int


@dataclass
class Stage:
    """One stage: `FROM base AS name` and its instructions."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


@dataclass
class Dockerfile:
    """The stages in order, and the `ARG`s before the first one."""

    arguments: dict[str, str]
    stages: list[Stage]


def parse(text: str) -> Dockerfile:
    """Parse a Dockerfile. Variables are not expanded; see `expand`."""
    parsed = Dockerfile({}, [])
    for number, line in _lines(text):
        name, _, rest = line.partition(" ")
        name, rest = name.upper(), rest.strip()
        flags: dict[str, list[str]] = {}
        while match := _FLAG.match(rest):
            flags.setdefault(match[1], []).append(match[2])
            rest = rest[match.end() :]
        if name == "FROM":
            base, _, alias = re.sub(r"\s+AS\s+", " ", rest, flags=re.IGNORECASE).partition(" ")
            parsed.stages.append(Stage(alias or str(len(parsed.stages)), base))
        elif parsed.stages:
            parsed.stages[-1].instructions.append(Instruction(name, rest, flags, number))
        elif name == "ARG":
            argument, _, default = rest.partition("=")
            parsed.arguments[argument] = default
        else:
            raise ValueError(f"line {number}: {name} before the first FROM")
    return parsed


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace variables by their values.

    >>> expand("a-${DEVICE}:$TAG ${NONE:-b}", {"DEVICE": "cpu", "TAG": "1"})
    'a-cpu:1 b'
    """
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[3]) or match[2] or "", text)


def pairs(value: str) -> dict[str, str]:
    """Return the variables of an `ENV` or `ARG`.

    >>> pairs('A=1 B="x y"')
    {'A': '1', 'B': 'x y'}
    """
    return {name: given for name, _, given in (word.partition("=") for word in shlex.split(value))}


def mount(text: str) -> dict[str, str]:
    """Return the keys of a `--mount`.

    >>> mount("type=cache,target=/root/.cache/pip")
    {'type': 'cache', 'target': '/root/.cache/pip'}
    """
    return {key: value for key, _, value in (part.partition("=") for part in text.split(","))}


def _lines(text: str) -> list[tuple[int, str]]:
    """Join lines continued by a backslash; drop comments and empty lines, also between continued lines."""
    lines: list[tuple[int, str]] = []
    current: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        start = start if current else number
        current.append(bare.removesuffix("\\").strip())
        if not bare.endswith("\\"):
            lines.append((start, " ".join(current)))
            current = []
    return lines
