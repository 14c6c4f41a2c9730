from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from corpus.rows import ROWS


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the files: that of CORPUS_DIR, else a temporary one."""
    kept = os.environ.get("CORPUS_DIR")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("corpus")
    folder.mkdir(parents=True, exist_ok=True)
    words = "1\n00:00:00,100 --> 00:00:00,500\nOne\n\n2\n00:00:00,600 --> 00:00:00,900\nTwo\n"
    (folder / "words.srt").write_text(words)
    (folder / "chapters.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=600\ntitle=One\n")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many rows of each kind agree."""
    results: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            row = ROWS.get(getattr(report, "nodeid", "").partition("[")[2].removesuffix("]"))
            if row is not None and (report.when == "call" or outcome in ("error", "skipped")):
                results.setdefault(row.kind, Counter())[outcome] += 1
    if not results:
        return
    terminalreporter.section("corpus of videos")
    for kind, counts in results.items():
        terminalreporter.line(f"{kind:20} {counts['passed']:4} passed {counts.total() - counts['passed']:4} not")
