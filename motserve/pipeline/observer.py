"""What the pipeline tells of its work while it works; who listens, and to what end, is the caller's matter."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol, TypeAlias

Stage: TypeAlias = Literal["decode", "detect", "embed", "track", "write"]
"""A step of the way of a chunk of frames."""


class ChunkObserver(Protocol):
    """Told of one chunk of frames."""

    def stage(self, stage: Stage) -> AbstractContextManager[object]:
        """Return a context that is open while a stage works on the chunk.

        A stage may be entered several times, and `embed` is entered within `track`. `decode` is entered in a thread.
        """

    def ended(self, frames: int) -> None:
        """Hear that the chunk has been through, or was given up.

        Args:
            frames: How many frames were decoded.
        """


class PipelineObserver(Protocol):
    """Told of one video."""

    def chunk(self) -> ChunkObserver:
        """Return who is told of the next chunk; called before it is decoded."""

    def decoded(self, frames: int) -> None:
        """Hear that frames were decoded."""


class _Nobody:
    """Listens to nothing."""

    def chunk(self) -> _Nobody:
        return self

    def stage(self, stage: Stage) -> AbstractContextManager[object]:
        return _NOTHING

    def ended(self, frames: int) -> None:
        pass

    def decoded(self, frames: int) -> None:
        pass


_NOTHING: Final = nullcontext()
UNOBSERVED: Final = _Nobody()
"""For work that nobody listens to."""
