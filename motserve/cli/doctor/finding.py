"""The result of a check, and the time limit that every check has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "limited", "broken"]
"""`limited`: something that not everyone needs does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        name: What was checked.
        state: Whether it works.
        text: What was found.
        mend: How to mend it; empty if it works.
        required: Without it, no video can be tracked.
    """

    name: str
    state: State
    text: str
    mend: str = ""
    required: bool = False


def run_checks(checks: Mapping[str, Callable[[], Finding]], limit_s: float) -> list[Finding]:
    """Run all checks at once, each for at most `limit_s` seconds; a disk or a network that hangs ends none of them.

    Returns:
        The findings, in the order of the checks.
    """
    findings: dict[str, Finding] = {}

    def run(name: str, check: Callable[[], Finding]) -> None:
        try:
            findings[name] = check()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            findings[name] = Finding(name, "broken", f"cannot be checked ({reason})")

    # daemon threads, because one that hangs must not keep the process alive
    threads = [threading.Thread(target=run, args=item, daemon=True) for item in checks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit_s)
    late = Finding("", "broken", f"no answer in {limit_s:g} s")
    return [findings.get(name, Finding(name, late.state, late.text)) for name in checks]
