"""Finds complete tracks of an earlier run, so that the same video with the same settings is not tracked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from motserve.models.provenance import stamp_of

_SECTIONS: Final = ("detector", "tracker", "reid", "regrouping", "linking", "interpolation", "video", "pipeline")
"""Sections of the configuration that tracks depend on."""

_ROLES: Final = ("detector", "reid")


def find_finished(folders: Iterable[Path], files: Sequence[str], expected: Mapping[str, Any]) -> Path | None:
    """Return the first folder with complete tracks of a video.

    Args:
        folders: Folders of earlier runs.
        files: Names of the files that the folder must hold; the first are the tracks.
        expected: The provenance that the tracks of a new run would have.

    Returns:
        The folder; None if there is none.
    """
    for folder in folders:
        if all((folder / name).is_file() for name in files) and _is_same(stamp_of(folder / files[0]), expected):
            return folder
    return None


def _is_same(found: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> bool:
    if found is None or "incomplete" in found:
        return False
    try:
        return (
            found["data"] == expected["data"]
            and all(found["config"][name] == expected["config"][name] for name in _SECTIONS)
            and all(_identify(found["weights"][role]) == _identify(expected["weights"][role]) for role in _ROLES)
        )
    except (LookupError, TypeError, AttributeError):  # of another release
        return False


def _identify(weights: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return the description of weights without the backend: it is not known before a run, and all give the same."""
    return None if weights is None else {key: value for key, value in weights.items() if key != "backend"}
