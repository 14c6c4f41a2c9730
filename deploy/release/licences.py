"""Tells under which licences everything is that motserve runs with, and writes docs/licences.md.

python deploy/release/licences.py > docs/licences.md

Names and versions are those of deploy/docker/constraints.txt, licences those that the packages name in their metadata.
What they do not say there in words of SPDX is in licences.yaml, and so is what needs care.
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
from constrain import closure
from pydantic import BaseModel, ConfigDict, Field

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent / "docker" / "constraints.txt"
HEAD = """# Licences

motserve is [AGPL-3.0](../LICENSE). This is what it runs with: every Python package of the versions that the images have
(`deploy/docker/constraints.txt`), the licence that each names, and what needs care. `make licences` writes this page, a
test compares it. It is a reading by engineers, not the advice of a lawyer. The same list for machines is the
[SBOM](releasing.md#sbom).

## What needs care

| what | licence | what follows |
| --- | --- | --- |
"""


class Unknown(Exception):
    """The licence of a package, or what follows from it, is not known; the message says where to write it down."""


class Reading(BaseModel):
    """A licence that somebody read in the text that a package brings."""

    model_config = ConfigDict(extra="forbid")

    licence: str = Field(description="Expression of SPDX.")
    source: str = Field("text", alias="from", description="Where it was read.")


class Care(BaseModel):
    """Something that needs a look."""

    model_config = ConfigDict(extra="forbid")

    what: str = Field(description="What it is.")
    packages: list[str] = Field(description="Names in the table; a star stands for the rest of a name.")
    licence: str = Field(description="In words.")
    follows: str = Field(description="What follows from it.")


class Rules(BaseModel):
    """licences.yaml."""

    model_config = ConfigDict(extra="forbid")

    words: dict[str, str] = Field(description="Words of the metadata, and the licence they stand for.")
    read: dict[str, Reading] = Field(description="Packages whose metadata says too little.")
    fits: dict[str, Literal[True, "doubt"]] = Field(description="Whether a licence goes with AGPL-3.0.")
    care: list[Care] = Field(description="What needs a look.")


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a package.

    Attributes:
        expression: Expression of SPDX.
        source: Where it was found: `metadata`, `classifier`, `text`, or in words.
    """

    expression: str
    source: str


@cache
def rules() -> Rules:
    """Return what is in licences.yaml."""
    return Rules.model_validate(yaml.safe_load((HERE / "licences.yaml").read_text()))


def licence_of(package: Distribution) -> Licence:
    """Return the licence of an installed package.

    Raises:
        Unknown: Neither its metadata nor licences.yaml says.
    """
    metadata, name = package.metadata, package.name.lower().replace("_", "-").replace(".", "-")
    if name in rules().read:
        reading = rules().read[name]
        return Licence(reading.licence, reading.source)
    classifiers = {
        text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or [] if text.startswith("License :: ")
    }
    # not by subscript: whoever imports the backport `importlib_metadata` has it raise where a field is missing
    field = next(chain.from_iterable(metadata.get_all(key) or () for key in ("License-Expression", "License")), "")
    said = [(field.strip().partition("\n")[0], "metadata")]  # some put the whole text there
    if len(classifiers) == 1:  # several may mean one or all of them
        said.append((*classifiers, "classifier"))
    for words, source in said:
        expression = rules().words.get(words, words)
        if words and all(part in rules().fits for part in parts_of(expression)):
            return Licence(expression, source)
    raise Unknown(
        f"{name} says {[words for words, _ in said]}: read its licence and add it to `read`, the words to `words`, or "
        "the licence to `fits`, in deploy/release/licences.yaml"
    )


def parts_of(expression: str) -> list[str]:
    """Return the licences in an expression of SPDX.

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
        Unknown: A package is installed in another version than constraints.txt has, or its licence is not known.
    """
    versions = pinned()
    installed = closure("motserve[tracing]")
    other = [name for name, version in versions.items() if name not in installed or installed[name].version != version]
    if other:
        raise Unknown(f"not installed in the version of {CONSTRAINTS}: {', '.join(other)}")
    licences = {name: licence_of(distribution(name)) for name in versions}
    text = HEAD
    for care in rules().care:
        _check_names(care, versions)
        text += f"| {care.what} | {care.licence.strip()} | {care.follows.strip()} |\n"
    text += (
        f"\n## All {len(versions)} packages\n\n`text`: read in the licence that the package brings, because its "
        "metadata names none of SPDX's.\n\n"
        "| package | version | licence | stated in | fits AGPL-3.0 |\n| --- | --- | --- | --- | --- |\n"
    )
    for name, licence in licences.items():
        verdict = "in doubt" if in_doubt(licence.expression) else "yes"
        text += f"| {name} | {versions[name]} | {licence.expression} | {licence.source} | {verdict} |\n"
    return text


def in_doubt(expression: str) -> bool:
    """Tell whether it is in doubt that a licence goes with AGPL-3.0."""
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
