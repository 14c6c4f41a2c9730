"""Says which version of a data set a job learns from: checksums, and the revision of DVC where it keeps the folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from motserve.datasets.manifest import is_prepared, read_manifest
from motserve.errors import InvalidData
from motserve.provenance import describe_files

_LOCK = "dvc.lock"


def describe_data(root: Path, files: Collection[Path] = ()) -> dict[str, Any]:
    """Describe a folder of data.

    Args:
        root: The folder.
        files: What of it is used; all of it by default.

    Returns:
        `sha256` of the manifest where `motserve datasets prepare` wrote the folder, else number, size and checksum of
        the files; and `dvc`, the checksum that DVC has of it in `<root>.dvc` or in the `dvc.lock` of a folder
        above it, where there is one.

    Raises:
        NotFound: A file of the manifest is missing.
        InvalidData: The manifest or a file of DVC is malformed.
    """
    described = {"sha256": read_manifest(root).sha256} if is_prepared(root) else describe_files(files or [root], root)
    revision = _dvc_revision(root.absolute())
    return described if revision is None else {**described, "dvc": revision}


def _dvc_revision(root: Path) -> str | None:
    beside = root.with_name(f"{root.name}.dvc")
    if beside.is_file():
        outs = _read(beside).get("outs") or []
        return next((_checksum(out) for out in outs if out.get("path") == root.name), None)
    for folder in root.parents:
        if (folder / _LOCK).is_file():
            stages = (_read(folder / _LOCK).get("stages") or {}).values()
            outs = [out for stage in stages for out in stage.get("outs") or []]
            return next((_checksum(out) for out in outs if folder / out["path"] == root), None)
    return None


def _checksum(out: dict[str, Any]) -> str | None:
    return out.get(out.get("hash", "md5"))


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidData(f"{file} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidData(f"{file} is no file of DVC; restore it from version control")
    return tree
