"""Terminal handling of a command: characters the encoding lacks, errors on one line, and termination signals."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
from typing import Any, Final

from rich.console import Console, ConsoleDimensions
from rich.markup import escape

from motserve.files.names import readable

_ESCAPES: Final = "motserve.escapes"
_WIDE: Final = 10_000  # columns, more than any table has


def accept_any_text() -> None:
    """Write characters that the encoding of standard output or standard error lacks as escapes, instead of failing."""
    codecs.register_error(_ESCAPES, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a host program may have replaced the stream
            stream.reconfigure(errors=_ESCAPES)


class WholeConsole(Console):
    """A console that cuts and wraps nothing where its output goes to a file or a pipe.

    Rich assumes 80 columns there. A terminal, `COLUMNS` or `width` still set the width.
    """

    def __init__(self, *, width: int | None = None, **settings: Any) -> None:
        super().__init__(width=width, **settings)
        self._free = width is None and not os.environ.get("COLUMNS", "").isdigit()

    @property  # type: ignore[misc]  # of Rich's console the size can be set too, which this one has no use for
    def size(self) -> ConsoleDimensions:
        """Columns and lines."""
        measured = super().size
        return measured if not self._free or self.is_terminal else ConsoleDimensions(_WIDE, measured.height)


def clean_up_when_ended() -> None:
    """Let a command remove its unfinished output before `kill` or a closed terminal ends it.

    Without this, the system ends the process at once. A signal that is ignored, as with `nohup`, stays ignored. Call it
    again after a library that sets handlers below Python, such as Ray's core.
    """
    if threading.current_thread() is not threading.main_thread():  # a host program runs it and owns the signals
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, _end):
            signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    raise SystemExit(128 + number)


def say_error(message: str) -> None:
    """Print an error message as one line on standard error; messages of libraries have several."""
    line = escape(readable(" ".join(message.splitlines())))
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {line}", highlight=False)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = readable(error.object[error.start : error.end])
    return text.encode(error.encoding, "backslashreplace").decode(error.encoding), error.end
