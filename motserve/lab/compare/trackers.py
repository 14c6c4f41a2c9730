"""Trackers side by side on the same detections: accuracy, and time per frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from motserve.choices import ALL
from motserve.config import (
    DEFAULT_TRACKER,
    PUBLISHED,
    TRACKERS,
    BotSortConfig,
    ByteTrackConfig,
    Config,
    change_config,
)
from motserve.errors import InvalidConfig
from motserve.lab.benchmark.peers import Ultralytics, available_peers, equal_thresholds, keys_without_equal
from motserve.lab.compare.comparison import Axes, Column, Comparison
from motserve.lab.evaluation import RATIO_NAMES, combine
from motserve.lab.evaluation.mot import Scored, score_sequence
from motserve.lab.evaluation.sequences import COMBINED
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.sequences import LabelledSequence, track_sequence
from motserve.lab.experiments.tracking import TrackedVideo, track_with
from motserve.results import to_table

EQUAL: Final = "ultralytics-bytetrack-equal"
"""Ultralytics' ByteTrack with the thresholds of the configuration."""

MEAN: Final = "mean"
"""Name used in place of a sequence's name in a row of means."""

_FALLBACK_RATE_HZ = 30.0  # the frame rate that Ultralytics assumes

RunTracker: TypeAlias = Callable[[LabelledSequence], TrackedVideo]

_TRACKER: Final = Column("tracker", "tracker", "text")
_HOTA: Final = Column("HOTA", "HOTA", "percent")
_MEDIAN: Final = Column("median_ms", "median ms", "decimal")
_COLUMNS: Final = (
    _TRACKER,
    Column("sequence", "sequence", "text"),
    _HOTA,
    Column("MOTA", "MOTA", "percent"),
    Column("IDF1", "IDF1", "percent"),
    Column("IDSW", "IDSW", "count"),
    _MEDIAN,
    Column("p95_ms", "p95 ms", "decimal"),
)


def own_variants(config: Config, sequences: Sequence[LabelledSequence]) -> dict[str, Config]:
    """Return the configured tracker without re-identification and, if all sequences have a video, with it.

    Args:
        config: The configuration; with `reid.policy` `off` only the tracker alone is returned.
        sequences: The sequences to track.
    """
    name: str = config.tracker.name
    variants = {name: change_config(config, {"reid": {"policy": "off"}})}
    if config.reid.policy != "off" and all(sequence.footage for sequence in sequences):
        variants[f"{name} + identities"] = config
    return variants


def own_by_name(names: Sequence[str], config: Config) -> dict[str, Config]:
    """Return motserve's trackers by name, each with its default parameters and without re-identification.

    Args:
        names: Names of trackers, or `all`. The configured tracker keeps its configured parameters.
        config: The configuration.

    Raises:
        InvalidConfig: A name is unknown.
    """
    plain = change_config(config, {"reid": {"policy": "off"}})
    known: dict[str, dict[str, Any]] = {}
    for name in TRACKERS:
        known[name] = {"name": name}
        if name == DEFAULT_TRACKER:
            known[f"{name}-published"] = {"name": name, **PUBLISHED}
    unknown = [name for name in names if name not in (*known, ALL)]
    if unknown:
        raise InvalidConfig(f"unknown tracker {', '.join(unknown)}; there are {', '.join(known)} and {ALL}")
    return {
        name: change_config(plain, {"tracker": section})
        for name, section in known.items()
        if name in names or ALL in names
    }


def without_pictures(configs: Mapping[str, Config]) -> dict[str, Config]:
    """Return configurations that need no pictures: a static camera is assumed, and embedding trackers are dropped."""
    no_pictures = {"camera": None, "appearance": None}
    return {
        name: change_config(config, {"tracker": no_pictures}) if isinstance(config.tracker, BotSortConfig) else config
        for name, config in configs.items()
        if isinstance(config.tracker, BotSortConfig) or not config.needs_embeddings
    }


def own_candidates(configs: Mapping[str, Config], cache: Cache) -> dict[str, RunTracker]:
    """Return a function for each configuration that tracks a sequence, with re-identification unless it is off."""
    return {name: _own(config, cache) for name, config in configs.items()}


def peer_candidates(names: Sequence[str], config: Config) -> dict[str, RunTracker]:
    """Return a function for each peer that tracks a sequence.

    Args:
        names: Names of peers; `all` for every installed peer that the configuration permits.
        config: The configuration; `EQUAL` gets its thresholds.

    Raises:
        InvalidConfig: A name is unknown or not installed, or `EQUAL` cannot reproduce the configuration.
    """
    fixed = keys_without_equal(config.tracker)
    if fixed and EQUAL in names:
        raise InvalidConfig(
            f"{EQUAL} needs the published algorithm, but tracker.{', tracker.'.join(fixed)} change it; use "
            "configs/tracker/bytetrack-published.yaml"
        )
    known: dict[str, RunTracker] = {}
    if not fixed:
        known[EQUAL] = lambda sequence: track_with(sequence.detected, _equal(sequence, config))
    for name, make in available_peers().items():
        known[name] = lambda sequence, make=make: track_with(sequence.detected, make(sequence.detected.rate_hz))  # type: ignore[misc]
    unknown = [name for name in names if name not in (*known, ALL)]
    if unknown:
        raise InvalidConfig(f"unknown tracker {', '.join(unknown)}; installed here are {', '.join(known)}")
    if ALL in names:
        return known
    return {name: known[name] for name in names}


def compare_trackers(
    sequences: Sequence[LabelledSequence],
    candidates: Mapping[str, RunTracker],
    progress: Callable[[str, int, int | None], None],
    with_mean: bool = False,
) -> Comparison:
    """Run every candidate over every sequence.

    Args:
        sequences: Ground truth and detections.
        candidates: A function that tracks a sequence, by the name of the tracker.
        progress: Called with the active tracker and its number of finished sequences.
        with_mean: Add a row for each tracker with the mean of the ratios over sequences; each sequence has the same
            weight, whatever its length.

    Returns:
        A row for each tracker and sequence; with several sequences, also one for each tracker over all.
    """
    rows: list[dict[str, Any]] = []
    for tracker, track in candidates.items():
        scored: dict[str, Scored] = {}
        times = []
        for done, sequence in enumerate(sequences):
            progress(tracker, done, len(sequences))
            tracked = track(sequence)
            table = to_table(tracked.frames, sequence.name, sequence.detected.class_names)
            scored[sequence.name] = score_sequence(sequence.table, table, sequence.rules, len(sequence.detected))
            times.append(tracked.milliseconds)
            rows.append(_row(tracker, sequence.name, scored[sequence.name], tracked.milliseconds))
        progress(tracker, len(sequences), len(sequences))
        if len(sequences) > 1 and with_mean:
            each = [one.scores.as_dict() for one in scored.values()]
            means = {name: float(np.mean([scores[name] for scores in each])) for name in RATIO_NAMES}
            rows.append({"tracker": tracker, "sequence": MEAN, **means})
        if len(sequences) > 1:
            rows.append(_row(tracker, COMBINED, combine(scored), np.concatenate(times)))
    overall = COMBINED if len(sequences) > 1 else sequences[0].name
    axes = Axes(_MEDIAN, _HOTA, _TRACKER, "median time of a frame, ms")
    return Comparison("Trackers", _COLUMNS, rows, axes, RATIO_NAMES, overall)


def _own(config: Config, cache: Cache) -> RunTracker:
    return lambda sequence: track_sequence(sequence, config, cache)


def _equal(sequence: LabelledSequence, config: Config) -> Ultralytics:
    rate = sequence.detected.rate_hz or _FALLBACK_RATE_HZ
    assert isinstance(config.tracker, ByteTrackConfig)  # other trackers do not get this peer
    return Ultralytics("bytetrack", **equal_thresholds(config.tracker, rate))


def _row(tracker: str, sequence: str, scored: Scored, milliseconds: np.ndarray[Any, Any]) -> dict[str, Any]:
    median, p95 = np.percentile(milliseconds, [50, 95]) if len(milliseconds) else (np.nan, np.nan)
    times = {"median_ms": float(median), "p95_ms": float(p95)}
    return {"tracker": tracker, "sequence": sequence, **scored.scores.as_dict(), **times}
