"""Callbacks and counters by which the pipeline reports its progress."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

Stage: TypeAlias = Literal["decode", "detect", "embed", "track", "write"]
"""A stage of processing a chunk of frames."""


@dataclass(slots=True)
class PipelineStats:
    """Counters of one video so far; written by the pipeline, read by reports and metrics.

    Attributes:
        frames: Frames tracked.
        identities: Identities given.
        embeddings: Embeddings computed.
        links: Returning people who were given their previous identity.
        embeddings_skipped: Embeddings not computed that `reid.policy: always` would have computed.
    """

    frames: int = 0
    identities: int = 0
    embeddings: int = 0
    links: int = 0
    embeddings_skipped: int = 0


class ChunkObserver(Protocol):
    """Observes the processing of one chunk of frames."""

    def stage(self, stage: Stage) -> AbstractContextManager[object]:
        """Return a context that is open while a stage processes the chunk.

        A stage may be entered several times, and `embed` is entered within `track`. `decode` is entered in another
        thread.
        """

    def ended(self, frames: int) -> None:
        """Handle the end of the chunk, whether it was processed or abandoned.

        Args:
            frames: How many frames were decoded.
        """


class PipelineObserver(Protocol):
    """Observes the processing of one video."""

    def chunk(self) -> ChunkObserver:
        """Return the observer of the next chunk; called before the chunk is decoded."""

    def decoded(self, frames: int) -> None:
        """Handle that frames were decoded."""


class _NullObserver:
    """Ignores all notifications."""

    def chunk(self) -> _NullObserver:
        return self

    def stage(self, stage: Stage) -> AbstractContextManager[object]:
        return _NULL_CONTEXT

    def ended(self, frames: int) -> None:
        pass

    def decoded(self, frames: int) -> None:
        pass


_NULL_CONTEXT: Final = nullcontext()
UNOBSERVED: Final = _NullObserver()
"""The observer that ignores all notifications."""
