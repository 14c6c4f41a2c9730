"""Identifies the version of a job's data set by checksums and, if DVC tracks the folder, by its DVC revision."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from motserve.errors import InvalidData
from motserve.files.yaml_reader import read_yaml
from motserve.lab.datasets.manifest import is_prepared, read_manifest
from motserve.models.provenance import describe_files

_LOCK = "dvc.lock"


def describe_data(root: Path, files: Collection[Path] = ()) -> dict[str, Any]:
    """Describe a folder of data.

    Args:
        root: The folder.
        files: The files that are used; by default all.

    Returns:
        `sha256` of the manifest if `motserve datasets prepare` wrote the folder, else number, size and checksum of the
        files; and `dvc`, its checksum in `<root>.dvc` or in the `dvc.lock` of a parent folder, if there is one.

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
        return _checksum(beside, root)
    lock = next((folder / _LOCK for folder in root.parents if (folder / _LOCK).is_file()), None)
    return None if lock is None else _checksum(lock, root)


def _checksum(file: Path, root: Path) -> str | None:
    """Return the checksum of a folder in a DVC file; None if the file does not list it."""
    try:
        tree = read_yaml(file)
        parts = tree["stages"].values() if file.name == _LOCK else [tree]
        for out in (out for part in parts for out in part.get("outs") or ()):
            if file.parent / out["path"] == root:
                return str(out[out.get("hash", "md5")])
    except OSError as error:
        raise InvalidData(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise InvalidData(f"{file} is not a DVC file ({type(error).__name__}: {error}); restore it") from error
    return None
