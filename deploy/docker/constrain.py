"""Writes down the versions that an environment has, so that images are built with what the tests ran with.

python deploy/docker/constrain.py > deploy/docker/constraints.txt
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = "# Versions that the tests ran with; python deploy/docker/constrain.py writes them.\n"


def constraints(name: str) -> list[str]:
    """Return `name==version` of everything that a distribution needs, itself left out, sorted.

    Args:
        name: The distribution, with those of its extras that are followed: `motserve[tracing]`.
    """
    found: dict[str, str] = {}
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
        found[key[0]] = installed.version.partition("+")[0]  # without what tells builds for CUDA from those without
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                waiting.append(needed)
    del found[canonicalize_name(Requirement(name).name)]
    return sorted(f"{name}=={version}" for name, version in found.items())


if __name__ == "__main__":
    sys.stdout.write(HEADER + "\n".join(constraints("motserve[tracing]")) + "\n")
