"""Prints docs/licences.md: the licences of all packages that motserve runs with.

python deploy/release/licences.py > docs/licences.md

Names and versions come from deploy/docker/constraints.txt, licences from the metadata of the packages. licences.yaml
has the licences that the metadata do not state as an SPDX expression, and notes on licences that need attention.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distribution
from itertools import chain
from pathlib import Path
from typing import Literal

import yaml
from constrain import PRODUCT, closure
from pydantic import BaseModel, ConfigDict, Field

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent / "docker" / "constraints.txt"
HEAD = """# Licences

motserve is [AGPL-3.0](../LICENSE). This page lists every Python package that it runs with, in the versions of the
images (`deploy/docker/constraints.txt`), with its stated licence, and the licences that need attention. `make licences`
writes this page, and a test compares it. It was written by engineers and is not legal advice. The
[SBOM](releasing.md#sbom) is the same list in machine-readable form.

## Licences that need attention

| software | licence | consequences |
| --- | --- | --- |
"""


class Unknown(Exception):
    """The licence of a package is not known, or not whether it is compatible; the message says where to add it."""


class Reading(BaseModel):
    """A licence that was determined by hand, usually from the licence text of the package."""

    model_config = ConfigDict(extra="forbid")

    licence: str = Field(description="SPDX expression.")
    source: str = Field("text", alias="from", description="Source of the licence.")


class Care(BaseModel):
    """A licence that needs attention."""

    model_config = ConfigDict(extra="forbid")

    what: str = Field(description="Name of the software.")
    packages: list[str] = Field(description="Packages in the table; `*` is a wildcard.")
    licence: str = Field(description="The licence in words.")
    follows: str = Field(description="Consequences of the licence.")


class Rules(BaseModel):
    """licences.yaml."""

    model_config = ConfigDict(extra="forbid")

    words: dict[str, str] = Field(description="Licence names in metadata, and their SPDX identifiers.")
    read: dict[str, Reading] = Field(description="Packages whose metadata do not state the licence precisely.")
    fits: dict[str, Literal[True, "doubt"]] = Field(description="Whether a licence is compatible with AGPL-3.0.")
    care: list[Care] = Field(description="Licences that need attention.")


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a package.

    Attributes:
        expression: SPDX expression.
        source: Its source: `metadata`, `classifier`, `text`, or a description.
    """

    expression: str
    source: str


@cache
def rules() -> Rules:
    """Return the contents of licences.yaml."""
    return Rules.model_validate(yaml.safe_load((HERE / "licences.yaml").read_text()))


def licence_of(package: Distribution) -> Licence:
    """Return the licence of an installed package.

    Raises:
        Unknown: Neither its metadata nor licences.yaml state it.
    """
    metadata, name = package.metadata, package.name.lower().replace("_", "-").replace(".", "-")
    if name in rules().read:
        reading = rules().read[name]
        return Licence(reading.licence, reading.source)
    classifiers = {
        text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or [] if text.startswith("License :: ")
    }
    # not by subscript: once the backport `importlib_metadata` is imported, a missing field raises
    field = next(chain.from_iterable(metadata.get_all(key) or () for key in ("License-Expression", "License")), "")
    stated = [(field.strip().partition("\n")[0], "metadata")]  # some packages have the whole licence text there
    if len(classifiers) == 1:  # several classifiers may mean any or all of them
        stated.append((*classifiers, "classifier"))
    for words, source in stated:
        expression = rules().words.get(words, words)
        if words and all(part in rules().fits for part in parts_of(expression)):
            return Licence(expression, source)
    raise Unknown(
        f"{name} says {[words for words, _ in stated]}: read its licence and add it to `read`, the words to `words`, "
        "or the licence to `fits`, in deploy/release/licences.yaml"
    )


def parts_of(expression: str) -> list[str]:
    """Return the licences in an SPDX expression.

    >>> parts_of("MPL-2.0 AND (Apache-2.0 WITH LLVM-exception OR MIT)")
    ['MPL-2.0', 'Apache-2.0 WITH LLVM-exception', 'MIT']
    """
    return [part.strip(" ()") for part in re.split(r" AND | OR ", expression)]


def pinned() -> dict[str, str]:
    """Return the versions in constraints.txt by name."""
    lines = CONSTRAINTS.read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def page() -> str:
    """Return docs/licences.md.

    Raises:
        Unknown: An installed version differs from constraints.txt, or a licence is not known.
    """
    versions = pinned()
    installed = closure(PRODUCT)
    other = [name for name, version in versions.items() if name not in installed or installed[name].version != version]
    if other:
        raise Unknown(f"installed versions differ from {CONSTRAINTS}: {', '.join(other)}")
    licences = {name: licence_of(distribution(name)) for name in versions}
    text = HEAD
    for care in rules().care:
        _check_names(care, versions)
        text += f"| {care.what} | {care.licence.strip()} | {care.follows.strip()} |\n"
    text += (
        f"\n## All {len(versions)} packages\n\n`text`: taken from the licence text of the package, because its "
        "metadata name no SPDX licence.\n\n"
        "| package | version | licence | stated in | compatible with AGPL-3.0 |\n| --- | --- | --- | --- | --- |\n"
    )
    for name, licence in licences.items():
        verdict = "in doubt" if in_doubt(licence.expression) else "yes"
        text += f"| {name} | {versions[name]} | {licence.expression} | {licence.source} | {verdict} |\n"
    return text


def in_doubt(expression: str) -> bool:
    """Return whether the compatibility of a licence with AGPL-3.0 is in doubt."""
    return any(rules().fits[part] == "doubt" for part in parts_of(expression))


def _check_names(care: Care, versions: dict[str, str]) -> None:
    for name in care.packages:
        if not fnmatch.filter(versions, name):
            raise Unknown(f"`care` of licences.yaml names {name}, which is not in {CONSTRAINTS}")


if __name__ == "__main__":
    try:
        sys.stdout.write(page())
    except Unknown as error:
        sys.exit(f"error: {error}")
