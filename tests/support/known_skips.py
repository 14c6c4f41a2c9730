"""Plugin of pytest: in continuous integration, a test is skipped for a known reason only.

Without it, a program or a package that is no longer installed switches its tests off, and the run stays green. The
known reasons are regular expressions in `known_skips` of pyproject.toml; each has to match a whole reason. With the
option `--known-skips`, which is on where the environment variable CI is set, a run with another skip fails and names
the test.
"""

from __future__ import annotations

import os
import re

import pytest

OPTION, INI = "--known-skips", "known_skips"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(INI, "regular expressions of the reasons for which a test may be skipped", type="linelist")
    parser.addoption(
        OPTION,
        action="store_true",
        default=bool(os.environ.get("CI")),
        help=f"fail if a test is skipped for a reason that is not in {INI}; on if CI is set",
    )


def pytest_configure(config: pytest.Config) -> None:
    # a process of pytest-xdist sends its reports to the one that started it, which judges them
    if config.getoption(OPTION) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(KnownSkips([re.compile(one) for one in config.getini(INI)]))


class KnownSkips:
    """Collects the skips of a run and fails it if the reason of one is not known."""

    def __init__(self, known: list[re.Pattern[str]]) -> None:
        self._known = known
        self._unknown: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "wasxfail"):
            self._judge(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._judge(report)

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            if not any(known.fullmatch(reason) for known in self._known):
                self._unknown[report.nodeid] = reason

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._unknown and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._unknown:
            return
        terminalreporter.section("skipped for an unknown reason", red=True, bold=True)
        for test, reason in self._unknown.items():
            terminalreporter.line(f"{test}: {reason}")
        terminalreporter.line(f"Install what is missing, or add the reason to {INI} in pyproject.toml.", red=True)
