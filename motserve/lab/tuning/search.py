"""Searches parameters of the tracker on one part of the data and scores them on another, held-out part.

The search is Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), in this process or, with several
workers, on Ray Tune.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pydantic import BaseModel

from motserve.config import Config, ParameterSpace, TuningConfig, change_config
from motserve.errors import InvalidConfig, InvalidData
from motserve.lab.evaluation import Scored, combine, score_sequence
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.sequences import LabelledSequence, track_sequence
from motserve.lab.tuning.trials import Objective, Trial, TrialProgress, Values, distributions, inside
from motserve.models.extras import required_extra
from motserve.results import to_table

logger = logging.getLogger("motserve.lab.experiments")

_SEARCHED: Final = ("tracker", "reid")
"""Sections that take effect after detection; detections are computed before a search begins."""


@dataclass(frozen=True, slots=True)
class Split:
    """Sequences to search on and to report on, without overlap.

    Attributes:
        train: Sequences that the search uses.
        held_out: Sequences that it does not use.
    """

    train: Sequence[LabelledSequence]
    held_out: Sequence[LabelledSequence]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The outcome of a search.

    Attributes:
        trials: All trials, in order of completion.
        best: The parameters with the best score on the training split.
        scores: Scores by parameters (`start`, `best`), then by split (`train`, `held_out`).
    """

    trials: Sequence[Trial]
    best: Values
    scores: Mapping[str, Mapping[str, Scored]]


def halves(sequences: Sequence[LabelledSequence]) -> Split:
    """Search on the first half of every sequence and hold out the second, as is usual with the MOTChallenge.

    Of n frames the first n // 2 + 1 are for training (Zhou et al., ECCV 2020).

    Raises:
        InvalidData: A sequence has no second half.
    """
    ends = [(sequence, len(sequence.detected) // 2 + 1, len(sequence.detected)) for sequence in sequences]
    short = [sequence.name for sequence, middle, end in ends if middle >= end]
    if short:
        raise InvalidData(f"{', '.join(short)} has too few frames to hold out the second half; name it in --held-out")
    return Split(
        [sequence.clip(0, middle) for sequence, middle, _ in ends],
        [sequence.clip(middle, end) for sequence, middle, end in ends],
    )


def by_name(sequences: Sequence[LabelledSequence], held_out: Collection[str]) -> Split:
    """Hold out whole sequences.

    Raises:
        InvalidData: A name is unknown, there is no name, or no sequence is left to search on.
    """
    names = [sequence.name for sequence in sequences]
    unknown = [name for name in held_out if name not in names]
    if unknown or not held_out or len(set(held_out)) == len(names):
        raise InvalidData(
            f"cannot hold out {', '.join(held_out) or 'nothing'} of {', '.join(names)}; name some of them, not all"
        )
    return Split(
        [sequence for sequence in sequences if sequence.name not in held_out],
        [sequence for sequence in sequences if sequence.name in held_out],
    )


def tune(split: Split, config: Config, cache: Cache, progress: TrialProgress) -> Tuned:
    """Search the parameters with the best score.

    Args:
        split: Sequences to search on and held-out sequences.
        config: The start of the search, and in section `tuning` its settings.
        cache: Cache of embeddings.
        progress: Called after each trial.

    Returns:
        The best parameters, and the scores of the start and of the best on both splits.

    Raises:
        InvalidConfig: A key of the search space is not in the configuration or cannot be searched.
    """
    settings = config.tuning
    start = start_values(config)
    objective = partial(_objective, split.train, config, cache)
    trials = _search(objective, settings, start, progress)
    best = max(trials, key=_score_of)
    if best.score is None:
        raise InvalidConfig("all tried sets of parameters are invalid; check the ranges in tuning.space")
    scores = {
        name: {
            part: score_tracking(sequences, change_config(config, nested(values)), cache)
            for part, sequences in (("train", split.train), ("held_out", split.held_out))
        }
        for name, values in (("start", start), ("best", best.values))
    }
    return Tuned(trials, best.values, scores)


def score_tracking(sequences: Sequence[LabelledSequence], config: Config, cache: Cache) -> Scored:
    """Track sequences as configured and score them together."""
    scored = {}
    for sequence in sequences:
        frames = track_sequence(sequence, config, cache).frames
        table = to_table(frames, sequence.name, sequence.detected.class_names)
        scored[sequence.name] = score_sequence(sequence.table, table, sequence.rules, len(sequence.detected))
    return combine(scored)


def nested(values: Values) -> dict[str, Any]:
    """Convert dotted keys to nested sections of the configuration.

    >>> nested({"tracker.kalman.position_noise": 0.1, "tracker.match_distance": 0.9})
    {'tracker': {'kalman': {'position_noise': 0.1}, 'match_distance': 0.9}}
    """
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return tree


def _objective(sequences: Sequence[LabelledSequence], config: Config, cache: Cache, values: Values) -> float | None:
    """Return the objective, or None where the values contradict each other, such as a low limit above a high one."""
    try:
        candidate = change_config(config, nested(values))
    except InvalidConfig as error:
        logger.debug("not tried: %s", error)
        return None
    scores = score_tracking(sequences, candidate, cache).scores.as_dict()
    return float(scores[config.tuning.objective])


def _search(objective: Objective, settings: TuningConfig, start: Values, progress: TrialProgress) -> list[Trial]:
    if settings.workers > 1:
        with required_extra("train", f"tuning.workers={settings.workers}"):
            from motserve.lab.tuning.ray_search import search_on_ray  # Ray Tune takes seconds to import

        return search_on_ray(objective, settings, start, progress)
    with required_extra("lab", "the search for parameters"):
        import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=settings.seed))
    space = distributions(settings.space)
    if inside(start, settings.space):
        study.enqueue_trial(dict(start))
    trials: list[Trial] = []
    for number in range(1, settings.trials + 1):
        asked = study.ask(space)
        score = objective(asked.params)
        state = optuna.trial.TrialState.PRUNED if score is None else optuna.trial.TrialState.COMPLETE
        study.tell(asked, score, state=state)
        trials.append(Trial(dict(asked.params), score))
        progress(number, max(trials, key=_score_of).score)
    return trials


def start_values(config: Config) -> dict[str, float]:
    """Return the values that a search starts with, by key.

    Raises:
        InvalidConfig: A key of the search space is not in the configuration or cannot be searched.
    """
    return {key: _start(config, key, part) for key, part in config.tuning.space.items()}


def _start(config: Config, key: str, part: ParameterSpace) -> float:
    """Return the value that a search of a key starts with; refuse keys that cannot be searched."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, BaseModel) or name not in type(node).model_fields:
            raise InvalidConfig(
                f"tuning.space: {key} is not a key of the configuration, whose tracker is {config.tracker.name}"
            )
        node = getattr(node, name)
    if isinstance(node, bool) or not isinstance(node, int | float):
        what = "a section" if isinstance(node, BaseModel) else repr(node)
        raise InvalidConfig(f"tuning.space: {key} is {what}; only numbers can be searched")
    if key.partition(".")[0] not in _SEARCHED:
        raise InvalidConfig(
            f"tuning.space: {key} cannot change the tracks of given detections; {' and '.join(_SEARCHED)} can"
        )
    if isinstance(node, int) and (part.step is None or part.step % 1 or part.low % 1):
        raise InvalidConfig(f"tuning.space: {key} is a whole number; its range needs a whole step and a whole low")
    return float(node)


def _score_of(trial: Trial) -> float:
    return float("-inf") if trial.score is None else trial.score
