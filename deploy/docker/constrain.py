"""Prints the versions installed in this environment, so that images are built with the versions that were tested.

python deploy/docker/constrain.py > deploy/docker/constraints.txt
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT = "motserve[all]"
"""What the images hold, and what licences and bills of materials are about."""

HEADER = "# Versions that the tests ran with; python deploy/docker/constrain.py writes them.\n"


@dataclass(slots=True)
class Package:
    """An installed distribution.

    Attributes:
        version: Its version, without the local part that marks CUDA and CPU builds.
        needs: Names of the installed distributions that it requires.
    """

    version: str
    needs: set[str] = field(default_factory=set)


def closure(name: str) -> dict[str, Package]:
    """Return a distribution and its direct and indirect requirements, by name.

    Args:
        name: The distribution with the extras to include: `motserve[all]`.
    """
    packages: dict[str, Package] = {}
    pending = [Requirement(name)]
    visited: set[tuple[str, frozenset[str]]] = set()
    while pending:
        requirement = pending.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in visited:
            continue
        visited.add(key)
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:  # required on other systems only
            continue
        package = packages.setdefault(key[0], Package(installed.version.partition("+")[0]))
        extras = ("", *requirement.extras)
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                pending.append(needed)
                package.needs.add(canonicalize_name(needed.name))
    for own, package in packages.items():
        package.needs = (package.needs & packages.keys()) - {own}  # an extra may name others of its distribution
    return packages


def constraints(name: str) -> list[str]:
    """Return `name==version` of all requirements of a distribution, without itself, sorted."""
    packages = closure(name)
    del packages[canonicalize_name(Requirement(name).name)]
    return sorted(f"{name}=={package.version}" for name, package in packages.items())


if __name__ == "__main__":
    sys.stdout.write(HEADER + "\n".join(constraints(PRODUCT)) + "\n")
