"""What Schemathesis does not know of this service: files that it reads. It also counts the answers."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

FILES = Path(os.environ["MOTSERVE_FUZZ_FILES"])
ANSWERS = Path(os.environ["MOTSERVE_FUZZ_ANSWERS"])

_answers: Counter[str] = Counter()


def _contents(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(FILES.glob(pattern))]


schemathesis.openapi.media_type("video/mp4", st.sampled_from(_contents("*.mp4")))
schemathesis.openapi.media_type("image/jpeg", st.sampled_from(_contents("*.jpg")))
schemathesis.openapi.media_type("image/png", st.sampled_from(_contents("*.png")))


@schemathesis.hook
def after_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], response: schemathesis.Response
) -> None:
    """Count the answer."""
    _answers[f"{case.operation.label} {response.status_code}"] += 1


@atexit.register
def _write_answers() -> None:
    ANSWERS.write_text(json.dumps(_answers))
