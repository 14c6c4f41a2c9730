from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
MOST_WORDS = 900


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_python_code_runs(
    tmp_path: Path,
    clip: Path,
    untrained: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "people.mp4").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    for setting in untrained[1::2]:
        key, _, value = setting.partition("=")
        monkeypatch.setenv("MOTSERVE_" + key.upper().replace(".", "__"), value)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("(112, 192, 3)")]
    assert len(lines) == 12
    assert (tmp_path / "annotated.mp4").stat().st_size > 1000


def test_it_is_short_and_its_table_has_six_numbers() -> None:
    text = README.read_text()
    assert len(text.split()) <= MOST_WORDS
    section = text.partition("## Measured\n")[2].partition("\n## ")[0]
    numbers = [row.split("|")[2].strip() for row in section.splitlines() if row.startswith("|")][2:]
    assert len(numbers) == 6
    assert all(re.fullmatch(r"[\d.]+( m?s)?", number) for number in numbers), numbers


def test_the_licence_of_the_weights_is_at_the_top() -> None:
    assert "weights in the package are not for commercial use" in README.read_text().partition("\n## ")[0]


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_linked_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\((\w[\w-]*\.md)\)", (ROOT / "docs" / "index.md").read_text()))
    assert {page.name for page in PAGES} - {"index.md"} == listed


def test_the_two_commands_are_verbs_of_the_makefile() -> None:
    makefile = (README.parent / "Makefile").read_text()
    verbs = re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE)
    assert len(verbs) == 2
    for verb in verbs:
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_commands_have_one_style_of_prefix(page: Path) -> None:
    assert "/motserve track" not in page.read_text()
    assert not re.search(r"\.venv/bin/(motserve|serve|python)", page.read_text())
