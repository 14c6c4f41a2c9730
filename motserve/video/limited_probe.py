"""A process that checks videos of strangers within limits: `python -m motserve.video.limited_probe MEMORY_BYTES`.

A file of a few kB can make a decoder allocate gigabytes, loop for hours or crash. Here this ends one process that holds
nothing else. It reads one request per line from standard input and answers each with one line, both JSON; it ends with
the process that started it. `motserve.serving.probing` is the other side.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import sys
from typing import Any, TextIO

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo, NotFound
from motserve.video.probe import probe_video

REFUSALS = {refusal.__name__: refusal for refusal in (InvalidVideo, NotFound)}
"""The errors that tell about the video, by their names in an answer."""


def main() -> None:
    """Limit this process, then answer requests until standard input ends."""
    memory_bytes = int(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    limit_process(memory_bytes)
    serve(sys.stdin, answers)


def limit_process(memory_bytes: int) -> None:
    """Limit the memory of this process, and its threads to one core.

    A decoder has as many threads as there are cores, and some frames for each of them.

    Args:
        memory_bytes: Most memory that the process may allocate.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer each line of `requests` with a line in `answers`."""
    for line in requests:
        answers.write(json.dumps(answer_of(json.loads(line))) + "\n")
        answers.flush()
        gc.collect()  # PyAV's frames are parts of cycles


def answer_of(request: dict[str, Any]) -> dict[str, str]:
    """Check a video.

    Args:
        request: `path`, `name` in messages, and `video`, the section of the configuration.

    Returns:
        Nothing for a good video, otherwise `error`, the name of a class, and `message`.
    """
    try:
        probe_video(request["path"], VideoConfig.model_validate(request["video"]), request["name"])
    except MemoryError:
        return {"error": "MemoryError", "message": ""}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {}


if __name__ == "__main__":
    main()
