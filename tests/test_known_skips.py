"""A test that is skipped for an unknown reason fails the run of continuous integration."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

TESTS = """
import pytest

@pytest.mark.skipif(True, reason="no data at all")
def test_mark():
    pass

@pytest.fixture
def program():
    pytest.skip("ffmpeg is not installed")

def test_fixture(program):
    pass

@pytest.mark.xfail
def test_fault():
    assert False

def test_import():
    pytest.importorskip("not_a_module")

def test_good():
    pass
"""
PYPROJECT = """
[tool.pytest.ini_options]
known_skips = [{reasons}]
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest('pytest_plugins = ["known_skips"]')
    pytester.makepyfile(test_some=TESTS)
    return pytester


def settings(*reasons: str) -> str:
    return PYPROJECT.format(reasons=", ".join(f"'{reason}'" for reason in reasons))


@pytest.mark.parametrize("processes", [(), ("-n", "2")] if find_spec("xdist") else [()])
def test_the_run_fails_and_names_each_unknown_skip(project: pytest.Pytester, processes: tuple[str, ...]) -> None:
    project.makepyprojecttoml(settings("no data"))  # a part of a reason
    project.makepyfile(test_module='import pytest\npytest.importorskip("not_a_module", reason="no module")')
    result = project.runpytest_inprocess("--known-skips", *processes)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines_random(
        [
            "*skipped for an unknown reason*",
            "test_module.py: no module",
            "test_some.py::test_mark: no data at all",
            "test_some.py::test_fixture: ffmpeg is not installed",
            "test_some.py::test_import: could not import 'not_a_module': *",
            "*known_skips in pyproject.toml*",
        ]
    )
    result.stdout.no_fnmatch_line("test_some.py::test_fault: *")


def test_known_reasons_are_no_failure(project: pytest.Pytester) -> None:
    project.makepyprojecttoml(settings("no data at all", r"\w+ is not installed", "could not import .*"))
    result = project.runpytest_inprocess("--known-skips")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*unknown reason*")
    result.assert_outcomes(passed=1, skipped=3, xfailed=1)


@pytest.mark.parametrize(("value", "code"), [("true", pytest.ExitCode.TESTS_FAILED), ("", pytest.ExitCode.OK)])
def test_the_variable_of_continuous_integration_decides(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str, code: pytest.ExitCode
) -> None:
    monkeypatch.setenv("CI", value)
    assert project.runpytest_inprocess().ret == code


def test_a_failed_run_keeps_its_exit_status(project: pytest.Pytester) -> None:
    project.makepyfile(test_broken="def test_broken(")
    assert project.runpytest_inprocess("--known-skips").ret == pytest.ExitCode.INTERRUPTED
