"""Records what the real detector finds in the clips of a benchmark, for the simulated one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from motserve.config import Config
from motserve.errors import MotserveError
from motserve.lab.benchmark.serving.simulated import Recording, picture_key
from motserve.lab.experiments.models import Models
from motserve.types import Detections
from motserve.video import open_video


def record(clips: Sequence[Path], config: Config) -> Recording:
    """Run the configured detector over clips in chunks of `pipeline.chunk_size`, as the pipeline does.

    Raises:
        WeightsUnavailable: The weights cannot be loaded.
    """
    detector = Models(config).detector
    detections: dict[bytes, Detections] = {}
    for clip in clips:
        with open_video(clip, config.video) as video:
            images = (frame.image for frame in video.frames())
            while chunk := list(islice(images, config.pipeline.chunk_size)):
                detections.update(zip(map(picture_key, chunk), detector.detect(chunk), strict=True))
    return Recording(dict(detector.class_names), detections)


def record_in_process(clips: Sequence[Path], config: Config) -> Recording:
    """Record as `record` does in a process that ends afterwards, with its network and threads.

    Raises:
        WeightsUnavailable: The weights cannot be loaded.
        MotserveError: The process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(record, clips, config).result()
        except BrokenProcessPool as error:
            raise MotserveError(f"the process that recorded detections was killed: {error}") from error
