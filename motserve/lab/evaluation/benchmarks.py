"""The rules of the MOTChallenge benchmarks: which rows of the ground truth count as people.

References: Leal-Taixe et al. 2015 (MOT15), Milan et al. 2016 (MOT16, MOT17), Dendorfer et al. 2020 (MOT20). The rules
are those of the benchmarks' own evaluation kit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from motserve.choices import Benchmark as Benchmark
from motserve.errors import InvalidData
from motserve.results import MotTable

BENCHMARKS: Final[tuple[Benchmark, ...]] = get_args(Benchmark)

PEDESTRIAN: Final = 1
KNOWN_CLASSES: Final = range(1, 14)
"""Classes of ground truth: pedestrian, person on vehicle, car, bicycle, motorbike, non-motorised vehicle, static
person, distractor, occluder, occluder on the ground, full occluder, reflection, crowd."""

DISTRACTORS: Final = frozenset({2, 7, 8, 12})
"""Person on vehicle, static person, distractor, reflection: a track of one is neither right nor wrong."""

DISTRACTORS_MOT20: Final = DISTRACTORS | {6}
"""In MOT20 also a non-motorised vehicle."""

_COLUMNS_WITH_CLASSES = 9  # frame, id, box, flag, class, visibility; MOT15 has three world coordinates instead


@dataclass(frozen=True, slots=True)
class Rules:
    """How a benchmark reads its ground truth.

    Attributes:
        benchmark: Name of the benchmark.
        classes: Whether rows have a class; without classes, each row with a non-zero flag is a person.
        distractors: Classes whose tracks count neither as right nor as false positives.
    """

    benchmark: Benchmark
    classes: bool
    distractors: frozenset[int]


_RULES: Final[dict[Benchmark, Rules]] = {
    "mot15": Rules("mot15", classes=False, distractors=frozenset()),
    "mot16": Rules("mot16", classes=True, distractors=DISTRACTORS),
    "mot17": Rules("mot17", classes=True, distractors=DISTRACTORS),
    "mot20": Rules("mot20", classes=True, distractors=DISTRACTORS_MOT20),
}


def rules_for(sequence: str, truth: MotTable, benchmark: Benchmark | None = None) -> Rules:
    """Return the rules for a sequence.

    Args:
        sequence: Its name.
        truth: Its ground truth.
        benchmark: Benchmark whose rules apply; None to detect it from the file: nine columns hold a class, as in
            MOT16, MOT17 and, by the name of the sequence, MOT20; other files have none, as in MOT15.

    Returns:
        The rules.

    Raises:
        InvalidData: The benchmark cannot be detected from the file.
    """
    if benchmark is None and truth.columns == _COLUMNS_WITH_CLASSES - 1:
        raise InvalidData(
            f"{truth.name} has {truth.columns} columns; it is unclear whether the last is a class; give --benchmark"
        )
    if benchmark is None:
        with_classes: Benchmark = "mot20" if sequence.upper().startswith("MOT20") else "mot17"
        benchmark = with_classes if truth.columns == _COLUMNS_WITH_CLASSES else "mot15"
    return _RULES[benchmark]
