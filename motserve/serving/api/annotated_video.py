"""Draws annotated videos, each once, in a Ray task so that the ingress stays free."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import ray

from motserve.config import Config
from motserve.files.disk import annotated_size
from motserve.results import read_results
from motserve.serving.api.run_to_completion import run_to_completion
from motserve.serving.api.service import Service
from motserve.serving.stores import Job
from motserve.serving.stores.room import require_room_for
from motserve.video import annotate_video


async def annotated_file(service: Service, job: Job) -> Path:
    """Return the annotated video of a finished job, drawing it first where that was not done yet.

    Requests that come meanwhile wait for the same drawing.
    """
    target = service.artifacts.annotated(job.id)
    if not target.exists():
        drawing = service.rendering.get(job.id)
        if drawing is None:
            share = service.config.disk.annotated_share
            await require_room_for(service.config, await asyncio.to_thread(annotated_size, Path(job.source), share))
            drawing = service.rendering.get(job.id)  # another request may have begun it meanwhile
        if drawing is None:
            drawing = asyncio.create_task(_draw(service, job, target))
            service.rendering[job.id] = drawing
            drawing.add_done_callback(lambda _: service.rendering.pop(job.id, None))
        # one reader who leaves must not stop the drawing for the others
        await asyncio.shield(drawing)
    return target


async def _draw(service: Service, job: Job, target: Path) -> None:
    task: Any = ray.remote(num_cpus=service.config.serving.session.cpus)(draw_annotated)
    results = str(service.artifacts.results(job.id))
    await (await run_to_completion(lambda: task.remote(job, results, str(target), service.config)))


def draw_annotated(job: Job, results: str, target: str, config: Config) -> None:
    """Write the annotated copy of a job's video."""
    class_names = {int(index): name for index, name in (job.classes or {}).items()}
    annotate_video(job.source, read_results(results, class_names), target, config.video, class_names)
