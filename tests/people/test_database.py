from __future__ import annotations

import multiprocessing
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from motserve.errors import IncompatibleStore
from motserve.people.database import Migration, migrate, transaction
from motserve.people.identity_store import IDENTITIES_FILE, IDENTITIES_STEPS, IdentityStore
from motserve.serving.inference.active_models import ACTIVE_MODELS_FILE, ACTIVE_MODELS_STEPS, ActiveModels
from motserve.serving.stores import JOBS_FILE, JOBS_STEPS, Job, JobStore

FIRST: tuple[Migration, ...] = (("CREATE TABLE IF NOT EXISTS t (a TEXT)", "CREATE INDEX IF NOT EXISTS i ON t (a)"),)
SECOND: tuple[Migration, ...] = (*FIRST, ("ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 7",))
STEPS = {JOBS_FILE: JOBS_STEPS, IDENTITIES_FILE: IDENTITIES_STEPS, ACTIVE_MODELS_FILE: ACTIVE_MODELS_STEPS}
STORES = pytest.mark.parametrize("name", list(STEPS))


def open_store(root: Path, name: str) -> None:
    {
        JOBS_FILE: lambda: JobStore(root),
        IDENTITIES_FILE: lambda: IdentityStore(root, 10),
        ACTIVE_MODELS_FILE: lambda: ActiveModels(root, "deployment"),
    }[name]()


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        found: int = database.execute("PRAGMA user_version").fetchone()[0]
    return found


def set_version(path: Path, value: int) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {value}")


def test_a_file_gets_the_steps_that_were_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "store.sqlite"
    migrate(path, FIRST)
    assert version(path) == 1
    with transaction(path) as database:
        database.execute("INSERT INTO t VALUES ('kept')")
    for _ in range(2):  # the second call has nothing to do
        migrate(path, SECOND)
        assert version(path) == 2
    with transaction(path) as database:
        assert [tuple(row) for row in database.execute("SELECT a, b FROM t")] == [("kept", 7)]


def test_a_file_from_before_versions_were_counted_keeps_its_rows(tmp_path: Path) -> None:
    migrate(tmp_path / JOBS_FILE, JOBS_STEPS[:1])
    with closing(sqlite3.connect(tmp_path / JOBS_FILE)) as database, database:
        database.execute(
            "INSERT INTO jobs (id, name, source, created_at, status, frames_done, fps, identities, embeddings, links) "
            "VALUES ('a', 'a.mp4', '/a.mp4', 1.0, 'done', 0, 0.0, 0, 0, 0)"
        )
    set_version(tmp_path / JOBS_FILE, 0)
    assert JobStore(tmp_path).get("a").name == "a.mp4"
    assert version(tmp_path / JOBS_FILE) == len(JOBS_STEPS)


def test_active_models_of_the_first_table_are_kept(tmp_path: Path) -> None:
    path = tmp_path / ACTIVE_MODELS_FILE
    migrate(path, ACTIVE_MODELS_STEPS[:1])
    with transaction(path) as database:
        database.execute("INSERT INTO served VALUES ('a', 'detector', '[\"models:/people/3\"]', 1.0)")
    for file_version in (1, 0):  # 0: written before versions were counted
        set_version(path, file_version)
        active_models = ActiveModels(tmp_path, "a")
        assert active_models.current("detector") == ("models:/people/3",)
        assert version(path) == len(ACTIVE_MODELS_STEPS)
        with transaction(path) as database:
            database.execute("ALTER TABLE active_models RENAME TO served")


def test_the_documentation_states_the_versions_of_the_stores() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    for name, steps in STEPS.items():
        assert f"| `{name}` | {len(steps)} |" in page


def test_a_failing_step_does_not_change_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    migrate(path, FIRST)
    before = path.read_bytes()
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(path, (*SECOND, ("ALTER TABLE nowhere ADD COLUMN c TEXT",)))
    assert path.read_bytes() == before


def test_concurrent_processes_apply_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    migrate(path, FIRST)
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as processes:
        for opened in [processes.submit(migrate, path, SECOND) for _ in range(9)]:
            opened.result(60)  # a second ALTER TABLE would raise: the column is there
    assert version(path) == 2


@STORES
def test_stores_count_their_versions(tmp_path: Path, name: str) -> None:
    open_store(tmp_path, name)
    assert version(tmp_path / name) == len(STEPS[name])


@STORES
def test_a_store_of_a_later_release_is_refused_and_not_changed(tmp_path: Path, name: str) -> None:
    open_store(tmp_path, name)
    set_version(tmp_path / name, 99)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(IncompatibleStore, match=rf"{name} has tables of version 99.*restore a backup"):
        open_store(tmp_path, name)
    assert (tmp_path / name).read_bytes() == before


@STORES
def test_a_file_that_is_no_database_is_refused_and_not_changed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no database at all, " * 100)
    with pytest.raises(IncompatibleStore, match=rf"{name} is no store"):
        open_store(tmp_path, name)
    assert (tmp_path / name).read_bytes() == b"no database at all, " * 100


def test_an_open_store_can_be_used_after_a_later_release_has_added_a_column(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    store.add(Job("a", "a.mp4", "/a.mp4", 1.0), 10, 5)
    migrate(tmp_path / JOBS_FILE, (*JOBS_STEPS, ("ALTER TABLE jobs ADD COLUMN later TEXT",)))
    store.add(Job("b", "b.mp4", "/b.mp4", 2.0), 10, 5)
    assert [job.id for job in store.page(5)] == ["b", "a"]
