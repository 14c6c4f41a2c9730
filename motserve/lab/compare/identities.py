"""Policies of re-identification side by side: identity scores, false links, and number of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from motserve.config import Config, change_config
from motserve.lab.compare.comparison import Axes, Column, Comparison
from motserve.lab.compare.trackers import MEAN
from motserve.lab.evaluation import RATIO_NAMES, Scored, combine, score_sequence
from motserve.lab.evaluation.sequences import COMBINED
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.links import judge_links
from motserve.lab.experiments.sequences import LabelledSequence, track_sequence
from motserve.results import to_table

_POLICY: Final = Column("policy", "policy", "text")
_IDF1: Final = Column("IDF1", "IDF1", "percent")
_EMBEDDINGS: Final = Column("embeddings", "embeddings", "count")
_COLUMNS: Final = (
    _POLICY,
    Column("sequence", "sequence", "text"),
    Column("HOTA", "HOTA", "percent"),
    Column("AssA", "AssA", "percent"),
    _IDF1,
    Column("IDSW", "IDSW", "count"),
    Column("links", "links", "count"),
    Column("false_links", "false", "count"),
    _EMBEDDINGS,
)
_COUNTS: Final = ("links", "false_links", "embeddings")


def policies_of(names: Sequence[str], config: Config) -> dict[str, Config]:
    """Return the configuration with each of the named policies.

    Raises:
        InvalidConfig: A policy is unknown.
    """
    return {name: change_config(config, {"reid": {"policy": name}}) for name in names}


def compare_identities(
    sequences: Sequence[LabelledSequence],
    candidates: Mapping[str, Config],
    cache: Cache,
    progress: Callable[[str, int, int | None], None],
) -> Comparison:
    """Track every sequence with every candidate.

    Args:
        sequences: Ground truth and detections.
        candidates: Configurations by name.
        cache: Cache of embeddings.
        progress: Called with the active candidate and its number of finished sequences.

    Returns:
        A row for each candidate and sequence. With several sequences, two more rows per candidate: one with means of
        the ratios and sums of the counts, and one over all sequences together.
    """
    rows: list[dict[str, Any]] = []
    for name, config in candidates.items():
        scored: dict[str, Scored] = {}
        candidate_rows: list[dict[str, Any]] = []
        for done, sequence in enumerate(sequences):
            progress(name, done, len(sequences))
            tracked = track_sequence(sequence, config, cache)
            table = to_table(tracked.frames, sequence.name, sequence.detected.class_names)
            scored[sequence.name] = score_sequence(sequence.table, table, sequence.rules, len(sequence.detected))
            judged = judge_links(tracked.frames, sequence.table)
            candidate_rows.append(
                {
                    "policy": name,
                    "sequence": sequence.name,
                    **scored[sequence.name].scores.as_dict(),
                    "links": len(judged),
                    "false_links": sum(not link.is_right for link in judged),
                    "embeddings": tracked.embeddings,
                }
            )
        progress(name, len(sequences), len(sequences))
        rows += candidate_rows
        if len(sequences) > 1:
            sums = {count: sum(row[count] for row in candidate_rows) for count in _COUNTS}
            means = {ratio: float(np.mean([row[ratio] for row in candidate_rows])) for ratio in RATIO_NAMES}
            switches = sum(row["IDSW"] for row in candidate_rows)
            rows.append({"policy": name, "sequence": MEAN, **means, "IDSW": switches, **sums})
            rows.append({"policy": name, "sequence": COMBINED, **combine(scored).scores.as_dict(), **sums})
    overall = COMBINED if len(sequences) > 1 else sequences[0].name
    axes = Axes(_EMBEDDINGS, _IDF1, _POLICY, "embeddings")
    return Comparison("Identities", _COLUMNS, rows, axes, RATIO_NAMES, overall)
