"""A row of the corpus: how a file is made, and what is expected of it beside agreement with FFmpeg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Edit = Callable[[Path], None]
"""Changes a file in place: cuts it, damages it, puts something in front."""

Times = Callable[[Sequence[float | None]], list[float]]
"""Turns the times that FFmpeg reports, None where it reports none, into the ones expected of motserve."""


@dataclass(frozen=True, slots=True)
class Row:
    """One file of the corpus.

    Attributes:
        name: Name of the file; its suffix picks the container.
        args: Arguments of `ffmpeg`. `{name}` stands for another row's file; without an input the test picture is used.
        kind: Heading in the table of results.
        edit: What happens to the file afterwards.
        joined: Rows whose bytes are written one behind the other in place of a run of `ffmpeg`.
        stream: Stream of pictures that motserve should pick, as FFmpeg names it.
        refused: Pattern of the refusal that is expected; the frames before it must agree with FFmpeg's all the same.
        may_refuse: The refusal may also be absent.
        times: What FFmpeg's times are turned into; by default, they are counted from the first frame.
        count: Number of frames that is expected where FFmpeg's command line gives another one.
        size: Width and height that are expected where FFmpeg's command line gives others.
        pixels: Greatest mean difference of a picture in levels of 255; None compares no pixels.
        peak: Greatest difference of one value.
        why: Why motserve differs on purpose from the command line.
        quick: The row runs in the normal suite, too.
        threads: Numbers of threads that must all give the same frames.
        reads: Options for the command line that reads the file.
    """

    name: str
    args: str = ""
    kind: str = ""
    edit: Edit | None = None
    joined: tuple[str, ...] = ()
    stream: str = "v:0"
    refused: str | None = None
    may_refuse: bool = False
    times: Times | None = None
    count: int | None = None
    size: tuple[int, int] | None = None
    pixels: float | None = 1.5
    peak: float = 24
    why: str = ""
    quick: bool = False
    threads: tuple[int, ...] = ()
    reads: str = ""


def unchanged(times: Sequence[float | None]) -> list[float]:
    """Return the times as FFmpeg reports them, not counted from the first frame."""
    return [time for time in times if time is not None]


def every(interval_s: float) -> Times:
    """Return times at a constant rate, whatever FFmpeg reports."""
    return lambda reported: [i * interval_s for i in range(len(reported))]
