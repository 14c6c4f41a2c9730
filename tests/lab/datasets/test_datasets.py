from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from dataset_copies import files_in, write_crowdhuman, write_market, write_mot17, write_picture
from typer.testing import CliRunner

from motserve import __version__
from motserve.cli.datasets import app
from motserve.errors import InvalidData, NotFound
from motserve.lab.datasets import Kind, Links, PrepareOptions, prepare, read_manifest, verify
from motserve.lab.datasets.pictures import list_pictures

SOURCES: dict[Kind, Callable[[Path], None]] = {
    "mot17": write_mot17,
    "market1501": write_market,
    "crowdhuman": write_crowdhuman,
}
ALL = pytest.mark.parametrize("kind", SOURCES)


def motserve_datasets(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@ALL
def test_the_manifest_accounts_for_every_file(kind: Kind, tmp_path: Path) -> None:
    SOURCES[kind](tmp_path / "source")
    out = tmp_path / "out"
    manifest = prepare(kind, tmp_path / "source", out)
    assert read_manifest(out) == manifest
    assert (manifest.kind, manifest.version, manifest.left_out) == (kind, __version__, ())
    written = [name for name in files_in(out) if name != "manifest.json" and not (out / name).is_symlink()]
    assert sorted(manifest.files) == written
    for name, entry in manifest.files.items():
        data = (out / name).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    place = out if manifest.pictures_in == "output" else Path(manifest.root)
    assert all((place / name).stat().st_size == entry.bytes for name, entry in manifest.pictures.items())
    assert sum(counts["pictures"] for counts in manifest.counts.values()) == manifest.source["pictures"]["files"]
    assert verify(out) == []


@ALL
def test_the_checksum_follows_from_the_data_alone(kind: Kind, tmp_path: Path) -> None:
    for name in ("a", "elsewhere/b"):
        SOURCES[kind](tmp_path / name / "source")
    first = prepare(kind, tmp_path / "a/source", tmp_path / "a/out")
    second = prepare(kind, tmp_path / "elsewhere/b/source", tmp_path / "b_out", PrepareOptions(links="copy"))
    assert first.sha256 == second.sha256
    assert len(first.sha256) == 64
    pictures = sorted((tmp_path / "a/source").rglob("*.jpg"))
    write_picture(pictures[-1], 32, 32, seed=99)  # its size in bytes changes too
    changed = prepare(kind, tmp_path / "a/source", tmp_path / "a/again", PrepareOptions(allow_missing=True))
    assert changed.sha256 != first.sha256


def test_the_checksum_covers_annotations_and_options(mot17: Path, market: Path, tmp_path: Path) -> None:
    first = prepare("mot17", mot17, tmp_path / "1")
    with (mot17 / "train/MOT17-09-SDP/gt/gt.txt").open("a") as file:
        file.write("2,2,1,1,5,5,0,3,1\n")
    second = prepare("mot17", mot17, tmp_path / "2")
    third = prepare("mot17", mot17, tmp_path / "3", PrepareOptions(sequences=("MOT17-02",)))
    assert len({first.sha256, second.sha256, third.sha256}) == 3

    seeds = [prepare("market1501", market, tmp_path / f"m{s}", PrepareOptions(seed=s)) for s in (0, 1, 2)]
    assert len({manifest.sha256 for manifest in seeds}) > 1


@ALL
def test_checksums_of_pictures_are_optional(kind: Kind, tmp_path: Path) -> None:
    SOURCES[kind](tmp_path / "source")
    out = tmp_path / "out"
    plain = prepare(kind, tmp_path / "source", out, PrepareOptions(checksum_pictures=False))
    assert all(entry.sha256 is None for entry in plain.pictures.values())
    manifest = prepare(kind, tmp_path / "source", out, PrepareOptions(links="hardlink", overwrite=True))
    assert manifest.sha256 != plain.sha256
    name, entry = next(iter(manifest.pictures.items()))
    picture = (out if manifest.pictures_in == "output" else tmp_path / "source") / name
    data = picture.read_bytes()
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    assert verify(out) == []
    picture.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    assert f"{name} was changed" in verify(out)


@pytest.mark.parametrize("links", ["symlink", "hardlink", "copy"])
def test_pictures_are_linked_or_copied(mot17: Path, tmp_path: Path, links: Links) -> None:
    prepare("mot17", mot17, tmp_path / "out", PrepareOptions(links=links))
    original = mot17 / "train/MOT17-02-FRCNN/img1/000001.jpg"
    for name in ("images/train/MOT17-02_000001.jpg", "sequences/train/MOT17-02/img1/000001.jpg"):
        picture = tmp_path / "out" / name
        assert picture.read_bytes() == original.read_bytes()
        assert picture.is_symlink() == (links == "symlink")
        assert picture.samefile(original) == (links != "copy")


def test_a_hard_link_points_to_the_target_of_a_symbolic_link(mot17: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for picture in (mot17 / "train/MOT17-02-FRCNN/img1").iterdir():
        picture.rename(tmp_path / "disk" / picture.name)
        picture.symlink_to(tmp_path / "disk" / picture.name)
    prepare("mot17", mot17, tmp_path / "out", PrepareOptions(links="hardlink"))
    assert not (tmp_path / "out/images/train/MOT17-02_000001.jpg").is_symlink()


def test_a_refused_link_is_an_error(mot17: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(InvalidData, match=r"000001.jpg cannot be placed at .*\(hardlink\): .*--links"):
        prepare("mot17", mot17, tmp_path / "out", PrepareOptions(links="hardlink"))
    assert [path.name for path in tmp_path.iterdir()] == ["MOT17"]


def test_a_full_disk_leaves_nothing_behind(mot17: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("motserve.lab.datasets.output.HashedFile.write", full)
    with pytest.raises(InvalidData, match=r"out: No space left"):
        prepare("mot17", mot17, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["MOT17"]


@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupt_changes_no_files(mot17: Path, tmp_path: Path, earlier: bool) -> None:
    out = tmp_path / "new/folder/out"
    if earlier:
        prepare("mot17", mot17, out)
    before = files_in(tmp_path)

    def interrupt(done: int, total: int) -> None:
        assert total == 9
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("mot17", mot17, out, PrepareOptions(overwrite=True), interrupt)
    assert files_in(tmp_path) == before
    assert (tmp_path / "new").exists() == earlier


def test_existing_files_are_not_replaced_without_overwrite(mot17: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    prepare("mot17", mot17, out)
    (out / "mine.txt").write_text("a note")
    before = files_in(tmp_path)
    with pytest.raises(InvalidData, match=r"out is not empty; .*--overwrite"):
        prepare("mot17", mot17, out)
    for name, folder in (("contains the source", mot17), ("contains the source", tmp_path)):
        with pytest.raises(InvalidData, match=name):
            prepare("mot17", mot17, folder, PrepareOptions(overwrite=True))
    (tmp_path / "web").mkdir()
    (tmp_path / "web/manifest.json").write_text('{"name": "another program"}')
    with pytest.raises(InvalidData, match="web holds something other than an output of this command"):
        prepare("mot17", mot17, tmp_path / "web", PrepareOptions(overwrite=True))
    with pytest.raises(InvalidData, match=r"manifest.json is a file; the output is a folder"):
        prepare("mot17", mot17, tmp_path / "web/manifest.json", PrepareOptions(overwrite=True))
    shutil.rmtree(tmp_path / "web")
    assert files_in(tmp_path) == before
    prepare("mot17", mot17, out, PrepareOptions(overwrite=True))
    assert not (out / "mine.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MOT17", "out"]


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no folder .*none"):
        prepare("mot17", tmp_path / "none", tmp_path / "out")


def test_verify_lists_all_differences(prepared_mot17: Path, mot17: Path) -> None:
    (prepared_mot17 / "labels/train/MOT17-02_000001.txt").write_text("")
    label = prepared_mot17 / "labels/train/MOT17-02_000002.txt"
    label.write_text(label.read_text().replace("0 0", "1 0", 1))
    (prepared_mot17 / "labels/val/MOT17-02_000004.txt").unlink()
    (prepared_mot17 / "images/train/MOT17-02_000002.jpg").unlink()
    removed = mot17 / "train/MOT17-02-FRCNN/img1/000003.jpg"
    removed.unlink()
    other = mot17 / "train/MOT17-02-FRCNN/img1/000005.jpg"
    before = other.stat().st_size
    write_picture(other, 32, 32)
    sizes = f"has {other.stat().st_size} bytes, not {before}"
    for added in ("images/train/more.jpg", "images/train/cached.npy", "labels/train.cache", "notes.txt"):
        (prepared_mot17 / added).write_text("added")
    assert sorted(verify(prepared_mot17)) == [
        "images/train/MOT17-02_000002.jpg is missing",
        f"images/train/MOT17-02_000003.jpg links to {removed}, which does not exist",
        "images/train/more.jpg was added",
        f"images/val/MOT17-02_000005.jpg {sizes}",
        "labels/train/MOT17-02_000001.txt has 0 bytes, not 76",
        "labels/train/MOT17-02_000002.txt was changed",
        "labels/val/MOT17-02_000004.txt is missing",
        f"sequences/train/MOT17-02/img1/000003.jpg links to {removed}, which does not exist",
        f"sequences/val/MOT17-02/img1/000002.jpg {sizes}",
    ]


def test_verify_of_an_index_checks_the_source(market: Path, tmp_path: Path) -> None:
    prepare("market1501", market, tmp_path / "out")
    (market / "query/0001_c1s1_000451_03.jpg").unlink()
    assert verify(tmp_path / "out") == ["query/0001_c1s1_000451_03.jpg is missing"]


def test_missing_and_malformed_manifests_are_refused(prepared_mot17: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no manifest.json in"):
        verify(tmp_path)
    path = prepared_mot17 / "manifest.json"
    tree = json.loads(path.read_bytes())
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "is not a manifest of a prepared data set"),
        ("{}", "is not a manifest of a prepared data set"),
        (json.dumps({**tree, "files": {"a": 3}}), "is not a manifest of a prepared data set"),
        (json.dumps({**tree, "files": {}}), "was changed since it was written"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidData, match=rf"manifest.json {message}"):
            verify(prepared_mot17)


def test_the_command_prints_missing_parts_and_the_checksum(mot17: Path, tmp_path: Path) -> None:
    shutil.rmtree(mot17 / "train/MOT17-09-SDP")
    out = tmp_path / "out[1]"
    refused = motserve_datasets("prepare", "mot17", mot17, "--output", out)
    assert isinstance(refused.exception, InvalidData)
    assert not out.exists()
    result = motserve_datasets("prepare", "mot17", mot17, "--output", out, "--allow-missing", "--links", "copy")
    assert result.exit_code == 0, result.output
    assert "left out: MOT17-09: the folder MOT17-09-FRCNN is missing" in result.stderr
    assert f"{out} is ready, sha256 {read_manifest(out).sha256}" in result.stdout
    assert read_manifest(out).options == {
        "split": "half",
        "sequences": ["MOT17-02", "MOT17-09"],
        "links": "copy",
        "allow_missing": True,
        "checksum_pictures": True,
    }
    chosen = motserve_datasets("prepare", "mot17", mot17, "--output", out, "--overwrite", "--sequences", "MOT17-02")
    assert (chosen.exit_code, chosen.stderr) == (0, "")


def test_the_command_prepares_an_index(market: Path, tmp_path: Path) -> None:
    result = motserve_datasets(
        "prepare", "market1501", market, "--output", tmp_path / "out", "--seed", 3, "--held-out-share", 0.5
    )
    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.options["seed"], manifest.options["held_out_share"]) == (3, 0.5)
    assert manifest.counts["validation"]["identities"] == 2


def test_the_command_verifies(prepared_mot17: Path) -> None:
    fine = motserve_datasets("verify", prepared_mot17)
    assert (fine.exit_code, fine.stdout) == (0, f"{prepared_mot17} is unchanged since it was prepared\n")
    for label in (prepared_mot17 / "labels").rglob("*.txt"):
        label.write_text("0 0.5 0.5 0.1 0.1\n0 0.4 0.4 0.1 0.1\n0 0.5 0.5 0.2 0.2\n")
    for picture in (prepared_mot17 / "sequences").rglob("*.jpg"):
        picture.unlink()
    for picture in (prepared_mot17 / "images").rglob("*.jpg"):
        picture.unlink()
    result = motserve_datasets("verify", prepared_mot17)
    assert result.exit_code == 3
    assert len(result.stdout.splitlines()) == 21
    assert result.stdout.splitlines()[-1] == "and 7 more"
    assert result.stderr.startswith(f"error: {prepared_mot17} has changed since it was prepared: 27 differences; ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "mot16", ".", "--output", "out"],
        ["prepare", "mot17", "."],
        ["prepare", "mot17", ".", "--output", "out", "--links", "reflink"],
        ["prepare", "crowdhuman", ".", "--output", "out", "--sequences", "A"],
        ["prepare", "market1501", ".", "--output", "out", "--held-out-share", "1"],
        ["verify"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert motserve_datasets(*arguments).exit_code == 2


def test_a_picture_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(InvalidData, match=r"caf\\xe9\.jpg: the name is not UTF-8; rename the file"):
        list_pictures(tmp_path)
