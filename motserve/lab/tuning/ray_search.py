"""The search for parameters on Ray Tune: several trials at a time, on all cores of the cluster."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any, Final

import optuna
import ray
from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from motserve.config import TuningConfig
from motserve.lab.tuning.trials import Objective, Trial, TrialProgress, Values, distributions, inside

_SCORE: Final = "score"
_CONTRADICTION: Final = float("-inf")  # Ray Tune requires a number from every trial


def search_on_ray(objective: Objective, settings: TuningConfig, start: Values, progress: TrialProgress) -> list[Trial]:
    """Search with `settings.workers` trials at a time; the order of completion varies, so the result does too.

    Args:
        objective: Scores a set of parameters; it is sent to each worker once.
        settings: Settings of the search.
        start: The parameters of the first trial, if they are in their ranges.
        progress: Called after each trial.

    Returns:
        All trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # of its own log files Ray Tune reads only the JSON one, and the TensorBoard one does not accept infinity
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # after Ctrl-C Ray Tune would return the trials so far as if they were all
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    logging.getLogger("ray.tune").setLevel(logging.WARNING)
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)  # a cluster if RAY_ADDRESS names one
    search = OptunaSearch(
        space=distributions(settings.space),
        metric=_SCORE,
        mode="max",
        seed=settings.seed,
        points_to_evaluate=[dict(start)] if inside(start, settings.space) else None,
    )
    callbacks: list[tune.Callback] = [JsonLoggerCallback(), _ProgressRelay(progress)]
    with tempfile.TemporaryDirectory(prefix="motserve-tune-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_run, objective=objective), {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(search, settings.workers), num_samples=settings.trials
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=callbacks),
        )
        grid = tuner.fit()
        outcomes = [grid[index] for index in range(len(grid))]
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [_trial(outcome.config or {}, (outcome.metrics or {})[_SCORE]) for outcome in outcomes]


class _ProgressRelay(tune.Callback):
    """Reports the number of completed trials and the best score."""

    def __init__(self, progress: TrialProgress) -> None:
        self._progress = progress
        self._ended = 0
        self._best = _CONTRADICTION

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `ray.tune.Callback`."""
        self._ended += 1
        self._best = max(self._best, (trial.last_result or {}).get(_SCORE, _CONTRADICTION))
        self._progress(self._ended, self._best if self._best > _CONTRADICTION else None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Drop the progress bar: Ray Tune pickles callbacks to restore an experiment, which is not used here."""
        return _ProgressRelay, (_ignore_progress,)


def _ignore_progress(ended: int, best: float | None) -> None:
    """Ignore progress."""


def _run(values: dict[str, float], objective: Objective) -> None:
    score = objective(values)
    tune.report({_SCORE: _CONTRADICTION if score is None else score})


def _trial(values: dict[str, float], score: float) -> Trial:
    return Trial(values, score if score > _CONTRADICTION else None)
