"""Writes down the versions that an environment has, so that images are built with what the tests ran with.

python deploy/docker/constrain.py > deploy/docker/constraints.txt
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = "# Versions that the tests ran with; python deploy/docker/constrain.py writes them.\n"


@dataclass(slots=True)
class Package:
    """An installed distribution.

    Attributes:
        version: Its version, without what tells builds for CUDA from those without.
        needs: Names of the installed distributions that it needs.
    """

    version: str
    needs: set[str] = field(default_factory=set)


def closure(name: str) -> dict[str, Package]:
    """Return a distribution and everything that it needs, by name.

    Args:
        name: The distribution, with those of its extras that are followed: `motserve[tracing]`.
    """
    found: dict[str, Package] = {}
    waiting = [Requirement(name)]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in done:
            continue
        done.add(key)
        try:
            installed = distribution(wanted.name)
        except PackageNotFoundError:  # needed on other systems alone
            continue
        package = found.setdefault(key[0], Package(installed.version.partition("+")[0]))
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                waiting.append(needed)
                package.needs.add(canonicalize_name(needed.name))
    for package in found.values():
        package.needs &= found.keys()
    return found


def constraints(name: str) -> list[str]:
    """Return `name==version` of everything that a distribution needs, itself left out, sorted."""
    found = closure(name)
    del found[canonicalize_name(Requirement(name).name)]
    return sorted(f"{name}=={package.version}" for name, package in found.items())


if __name__ == "__main__":
    sys.stdout.write(HEADER + "\n".join(constraints("motserve[tracing]")) + "\n")
