"""Finds ground truth and results of sequences in all common folder layouts, and reads their `seqinfo.ini`."""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from motserve.errors import InvalidData, NotFound
from motserve.files.folders import is_hidden
from motserve.models.provenance import stamp_of
from motserve.results import SUFFIXES
from motserve.results.mot import MOST_FRAMES
from motserve.results.run_folder import is_numbered_run
from motserve.video.images.seqinfo import read_seqinfo

COMBINED: Final = "combined"
"""Name used in place of a sequence's name for all sequences together."""

_TRUTH = Path("gt") / "gt.txt"
_RUN = "tracks"  # name of the result of `motserve track`, whose folder has the name of the video
_KIT = "data"  # subfolder of results in the layout of the benchmarks' kit
_MOST_NAMED = 8
_NUMBER = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True)
class TruthFile:
    """Ground truth of one sequence.

    Attributes:
        name: Name of the sequence.
        path: The file.
        frames: Length of the sequence by its `seqinfo.ini`; None without one.
        rate_hz: Frame rate in Hz by its `seqinfo.ini`; None without one.
        size: Width and height of a frame in pixels by its `seqinfo.ini`; None if it gives none.
    """

    name: str
    path: Path
    frames: int | None
    rate_hz: float | None
    size: tuple[int, int] | None = None

    @property
    def folder(self) -> Path | None:
        """Folder of the sequence; None if the ground truth is a single file."""
        return self.path.parent.parent if self.path.parts[-2:] == _TRUTH.parts else None


def find_truth(path: Path, only: Collection[str] = ()) -> dict[str, TruthFile]:
    """Find ground truth.

    Args:
        path: A file; the folder of a sequence; or a folder that holds `<sequence>/gt/gt.txt` or `<sequence>.txt`,
            itself or in its subfolders (as `MOT17/train/MOT17-02/gt/gt.txt`).
        only: Names of the sequences to find; empty for all.

    Returns:
        The sequences by name, in order of their names.

    Raises:
        NotFound: The path does not exist, or a sequence of `only` is missing.
        InvalidData: The folder holds no ground truth, the same sequence twice, or a broken `seqinfo.ini`.
    """
    if path.is_file():
        files = [_with_name(path.parent) / path.name]
    elif path.is_dir():
        files = next(filter(None, (_truth_below(_with_name(path), depth) for depth in range(3))), [])
    else:
        raise NotFound(f"there is no ground truth at {path}: no such file or folder")
    if not files:
        raise InvalidData(
            f"{path} holds no ground truth: searched gt/gt.txt, <sequence>/gt/gt.txt and <sequence>.txt, found "
            f"{_content(path)}"
        )
    sequences: dict[str, Path] = {}
    for file in files:
        name = _with_name(file.parent.parent).name if file.parts[-2:] == _TRUTH.parts else file.stem
        if name == COMBINED:
            raise InvalidData(f"{file}: {COMBINED} is reserved for all sequences together; rename the sequence")
        if name in sequences:
            raise InvalidData(f"there are two ground truths of {name}: {sequences[name]} and {file}")
        sequences[name] = file
    _require(only, sequences, f"ground truth in {path}")
    return {name: _describe(name, sequences[name]) for name in sorted(sequences) if not only or name in only}


def find_results(path: Path, names: Collection[str]) -> dict[str, Path]:
    """Find the results of sequences.

    Args:
        path: A file, for a single sequence; or a folder that holds `<sequence>.txt`, `.json`, `.ndjson` or `.csv`, or
            `<sequence>/tracks.*` as `motserve track` writes them, `<sequence>-2/tracks.*` of a second run too.
        names: Names of the sequences.

    Returns:
        The file of each sequence.

    Raises:
        NotFound: The path does not exist.
        InvalidData: A sequence has no result, or more than one.
    """
    if path.is_file():
        if len(names) != 1:
            raise InvalidData(f"{path} is one file, the ground truth has {len(names)} sequences: {_named(names)}")
        return dict.fromkeys(names, path)
    if not path.is_dir():
        raise NotFound(f"there is neither a file nor a folder {path}")
    results = {name: _result_files(path, name, alone=len(names) == 1) for name in names}
    missing = [name for name in names if not results[name]]
    if missing:
        raise InvalidData(
            f"{path} has no file of {_named(missing)}: searched {missing[0]}{{{','.join(SUFFIXES.values())}}} and "
            f"{missing[0]}/{_RUN}.*, found {_content(path)}; --sequences selects what is scored"
        )
    for name, files in results.items():
        if len(files) > 1:
            raise InvalidData(
                f"there are {len(files)} files of {name}, such as "
                f"{' and '.join(map(str, files[:2]))}; remove all but one, or give the folder of one run"
            )
    return {name: files[0] for name, files in results.items()}


def _truth_below(path: Path, depth: int) -> list[Path]:
    if depth == 0:
        return [path / _TRUTH] if (path / _TRUTH).is_file() else []
    alone = path.glob("*.txt") if depth == 1 else ()
    files = (file for file in [*path.glob(f"{'*/' * depth}{_TRUTH}"), *alone] if file.is_file())
    return sorted(file for file in files if not any(map(is_hidden, file.relative_to(path).parts)))


def _with_name(folder: Path) -> Path:
    """Return a path that ends with the name of the folder, also for `.` and `..`; links keep their names."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def _result_files(path: Path, name: str, alone: bool) -> list[Path]:
    runs = [folder for folder in path.glob(f"{glob.escape(name)}-*") if folder.name.rpartition("-")[2].isdecimal()]
    folders_to_search = [path / name, path / _KIT / name, *([path / _RUN] if alone else [])]
    # the name of a sequence may have the form of that of a result of motserve
    files = dict.fromkeys(file for place in folders_to_search for file in _with_suffixes(place))
    own = [file for file in _with_suffixes(path / name / _RUN) if not _is_later_run(file)]
    later = [file for folder in runs for file in _with_suffixes(folder / _RUN) if _is_later_run(file)]
    return [*files, *(file for file in (*own, *sorted(later)) if file not in files)]


def _with_suffixes(place: Path) -> list[Path]:
    files = (place.with_name(place.name + suffix) for suffix in SUFFIXES.values())
    return [file for file in files if file.is_file()]


def _is_later_run(file: Path) -> bool:
    """Return whether the folder of tracks has a number because the folder of an earlier run existed.

    The name alone does not decide: `A-2` may be the second run of `A`, or the first of another sequence.
    """
    data = (stamp_of(file) or {}).get("data") if _NUMBER.search(file.parent.name) else None
    return isinstance(data, dict) and any(is_numbered_run(file.parent.name, video) for video in data)


def _describe(name: str, path: Path) -> TruthFile:
    info = read_seqinfo(path.parent.parent) if path.parts[-2:] == _TRUTH.parts else None
    if info is None:
        return TruthFile(name, path, None, None)
    frames = info.length
    if frames is not None and not 0 < frames <= MOST_FRAMES:
        raise InvalidData(f"{info.path}: seqLength must be from 1 to {MOST_FRAMES}, got {frames}")
    return TruthFile(name, path, frames, info.rate_hz, info.size)


def _require(names: Iterable[str], available: Mapping[str, object], what: str) -> None:
    missing = [name for name in names if name not in available]
    if missing:
        raise NotFound(f"no {what} of {_named(missing)}; available: {_named(available)}")


def _content(path: Path) -> str:
    return _named(sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir()) or ["nothing"])


def _named(names: Collection[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
