"""Sums up the turns of an entrant in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motserve.config.base import Role
from motserve.lab.benchmark.serving.deliveries import frame_ms, rate, rate_together
from motserve.lab.benchmark.serving.entrants import Turn
from motserve.lab.benchmark.serving.processes import ProcessUse
from motserve.lab.benchmark.serving.service_metrics import ModelUse


@dataclass(frozen=True, slots=True)
class ModelRow:
    """What a model of the service did.

    Attributes:
        role: Which model.
        images: Images processed per round.
        batch: Images per run of the network, on average.
        fill: Share of the largest batch that was filled, in [0, 1].
        queue_p50_ms: Median time in milliseconds from the arrival of a request to its run.
        queue_p95_ms: 95th percentile of it.
        image_ms: Time of the network per image in milliseconds.
    """

    role: Role
    images: float
    batch: float | None
    fill: float | None
    queue_p50_ms: float | None
    queue_p95_ms: float | None
    image_ms: float | None


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """What the processes of one kind used.

    Attributes:
        kind: The kind.
        processes: Most processes at a time.
        cpu_ms: CPU time per frame in milliseconds.
        peak_mb: Largest memory of all of them at a time in MB, without files and memory that is shared.
    """

    kind: str
    processes: int
    cpu_ms: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class ServingRow:
    """The measurements of one entrant over all rounds.

    Attributes:
        name: Its name.
        sessions: Videos tracked at once.
        frames: Frames of all videos of a round.
        frames_per_s: Median over the rounds of the frames per second, from the first start to the last frame.
        rates: Frames per second of each round.
        together_per_s: Median of the frames per second while all videos were tracked; None without such a time.
        p50_ms: Median time per frame of a video in milliseconds, between one delivery and the next.
        p95_ms: 95th percentile of it.
        p99_ms: 99th percentile of it.
        first_p50_s: Median time in seconds from the end of the upload to the first frame.
        first_max_s: Longest such time.
        processes: What the processes used.
        models: What the models did; empty where it is not known.
        stages_ms: Time of each stage of the sessions per frame in milliseconds; empty where it is not known.
        limit_share: `together_per_s` as a share of what the simulated detector can do, in [0, 1]; None for real ones.
    """

    name: str
    sessions: int
    frames: int
    frames_per_s: float
    rates: list[float]
    together_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    first_p50_s: float
    first_max_s: float
    processes: list[ProcessRow]
    models: list[ModelRow]
    stages_ms: dict[str, float]
    limit_share: float | None = None


def sum_up(name: str, sessions: int, turns: Sequence[Turn], limit_per_s: float | None = None) -> ServingRow:
    """Return the row of an entrant.

    Args:
        name: Its name.
        sessions: Videos tracked at once.
        turns: Its turns, at least one.
        limit_per_s: Frames per second of the simulated detector with full batches; None for a real one.
    """
    videos = [video for turn in turns for video in turn.videos]
    per_frame = np.concatenate([frame_ms(video) for video in videos])
    p50, p95, p99 = np.percentile(per_frame, [50, 95, 99]).tolist() if len(per_frame) else (None, None, None)
    firsts = [video.first_s for video in videos]
    rates = [rate(turn.videos) for turn in turns]
    together = [value for turn in turns if (value := rate_together(turn.videos)) is not None]
    together_per_s = float(np.median(together)) if together else None
    frames = sum(len(video.times) for video in turns[0].videos)
    known = [turn for turn in turns if turn.models is not None and turn.stages is not None]
    stages: dict[str, float] = {}
    for turn in known:
        for stage, seconds in (turn.stages or {}).items():
            stages[stage] = stages.get(stage, 0.0) + seconds * 1e3 / (frames * len(known))
    return ServingRow(
        name,
        sessions,
        frames,
        float(np.median(rates)),
        rates,
        together_per_s,
        p50,
        p95,
        p99,
        float(np.median(firsts)),
        max(firsts),
        _process_rows([turn.processes for turn in turns], frames),
        _model_rows(known),
        stages,
        together_per_s / limit_per_s if together_per_s is not None and limit_per_s is not None else None,
    )


def _process_rows(turns: Sequence[Sequence[ProcessUse]], frames: int) -> list[ProcessRow]:
    uses = [use for turn in turns for use in turn]
    rows = []
    for kind in sorted({use.kind for use in uses}):
        own = [use for use in uses if use.kind == kind]
        cpu_ms = sum(use.cpu_s for use in own) * 1e3 / (frames * len(turns))
        peak_mb = max(use.peak_bytes for use in own) / 1e6
        rows.append(ProcessRow(kind, max(use.processes for use in own), cpu_ms, peak_mb))
    return rows


def _model_rows(turns: Sequence[Turn]) -> list[ModelRow]:
    sums: dict[Role, ModelUse] = {}
    for turn in turns:
        for role, use in (turn.models or {}).items():
            sums[role] = sums.get(role, ModelUse()) + use
    return [
        ModelRow(
            role,
            use.items / len(turns),
            use.mean_batch,
            use.fill,
            use.wait_ms(0.5),
            use.wait_ms(0.95),
            use.busy_s * 1e3 / use.items,
        )
        for role, use in sums.items()
        if use.items > 0
    ]
