"""A process that checks videos of strangers within limits, the other side of `motserve.serving.probing`.

A file of a few kB can make a decoder allocate gigabytes, loop for hours or crash. Here this ends one process that holds
nothing else. It writes `READY`, then reads one request per line from standard input and answers each with one line,
both JSON. It ends with the process that started it.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final, TextIO

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo, NotFound
from motserve.video.probe import probe_video

READY: Final = b"ready\n"
"""What the process writes once it can check videos."""

REFUSALS = {refusal.__name__: refusal for refusal in (InvalidVideo, NotFound)}
"""The errors that tell about the video, by their names in an answer."""

_PARENT_CHECK_S: Final = 1.0


def main() -> None:
    """Limit this process to the memory of its argument, in bytes, then answer requests until standard input ends."""
    memory_bytes = int(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    limit_process(memory_bytes)
    answers.write(READY.decode())
    answers.flush()
    serve(sys.stdin, answers)


def limit_process(memory_bytes: int) -> None:
    """Limit the memory of this process, and its threads to one core.

    A decoder has as many threads as there are cores, and some frames for each of them.

    Args:
        memory_bytes: Most memory that the process may allocate.
    """
    import resource  # of Unix only

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError):  # some containers forbid it
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
        request: `path` as hexadecimal bytes, `name` in messages, and `video`, the section of the configuration.

    Returns:
        Nothing for a good video, otherwise `error`, the name of a class, and `message`.
    """
    try:
        path = os.fsdecode(bytes.fromhex(request["path"]))
        probe_video(path, VideoConfig.model_validate(request["video"]), request["name"])
    except MemoryError:
        return {"error": "MemoryError", "message": ""}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {}


def _end_with_parent(parent: int) -> None:
    """End this process, also during a check, when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)
