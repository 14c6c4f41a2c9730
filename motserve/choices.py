"""Words that a command-line option or a setting chooses from.

They stand apart from the code that gives them a meaning, so that `--help` can list them without loading it.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Format: TypeAlias = Literal["json", "ndjson", "mot", "csv"]
"""Format of exported tracks."""

Benchmark: TypeAlias = Literal["mot15", "mot16", "mot17", "mot20"]
"""Benchmark whose rules apply to a score."""

Protocol: TypeAlias = Literal["market1501", "dukemtmc", "msmt17", "cross-camera"]
"""Layout of a data set of crops and its query and gallery."""

Dataset: TypeAlias = Literal["mot17", "mot20", "market1501", "dukemtmc", "crowdhuman"]
"""Data set that can be prepared."""

Links: TypeAlias = Literal["symlink", "hardlink", "copy"]
"""How the pictures of a prepared data set are placed."""

ScoreScale: TypeAlias = Literal["auto", "as-is", "rank", "logistic"]
"""How scores of detections become confidences."""

Alias: TypeAlias = Literal["production", "staging"]
"""Alias of a model version; services load the version that it refers to."""

ALL: Final = "all"
"""In a list of names: all of them."""
