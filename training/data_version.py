"""Says which version of a data set a job learns from: checksums, and the revision of DVC where it keeps the folder."""

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
        return _checksum(beside, root)
    lock = next((folder / _LOCK for folder in root.parents if (folder / _LOCK).is_file()), None)
    return None if lock is None else _checksum(lock, root)


def _checksum(file: Path, root: Path) -> str | None:
    """Return the checksum that a file of DVC has of a folder; None where it is about others."""
    try:
        tree = read_yaml(file)
        parts = tree["stages"].values() if file.name == _LOCK else [tree]
        for out in (out for part in parts for out in part.get("outs") or ()):
            if file.parent / out["path"] == root:
                return str(out[out.get("hash", "md5")])
    except OSError as error:
        raise InvalidData(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise InvalidData(f"{file} is no file of DVC ({type(error).__name__}: {error}); restore it") from error
    return None
