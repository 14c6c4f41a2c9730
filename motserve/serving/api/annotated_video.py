"""Renders annotated videos, each once, in a Ray task so that the ingress stays responsive."""

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
from motserve.serving.stores.disk_space import require_room_for
from motserve.video import annotate_video


async def annotated_file(service: Service, job: Job) -> Path:
    """Return the annotated video of a finished job, rendered on the first request.

    Concurrent requests wait for the same rendering.
    """
    target = service.artifacts.annotated(job.id)
    if not target.exists():
        rendering = service.rendering.get(job.id)
        if rendering is None:
            share = service.config.disk.annotated_share
            await require_room_for(service.config, await asyncio.to_thread(annotated_size, Path(job.source), share))
            rendering = service.rendering.get(job.id)  # another request may have started it during the await
        if rendering is None:
            rendering = asyncio.create_task(_render(service, job, target))
            service.rendering[job.id] = rendering
            rendering.add_done_callback(lambda _: service.rendering.pop(job.id, None))
        # a client that disconnects must not stop the rendering for the others
        await asyncio.shield(rendering)
    return target


async def _render(service: Service, job: Job, target: Path) -> None:
    task: Any = ray.remote(num_cpus=service.config.serving.session.cpus)(render_annotated)
    results = str(service.artifacts.results(job.id))
    await (await run_to_completion(lambda: task.remote(job, results, str(target), service.config)))


def render_annotated(job: Job, results: str, target: str, config: Config) -> None:
    """Write the annotated copy of a job's video."""
    class_names = {int(index): name for index, name in (job.classes or {}).items()}
    annotate_video(job.source, read_results(results, class_names), target, config.video, class_names)
