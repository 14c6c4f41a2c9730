"""What passes between a command and the terminal: any text, errors on one line, and signals to end."""

from __future__ import annotations

import codecs
import io
import signal
import sys
import threading
from typing import Final

from rich.console import Console
from rich.markup import escape

from motserve.files.names import readable

_ESCAPES: Final = "motserve.escapes"


def accept_any_text() -> None:
    """Make standard output and standard error write characters that their encoding lacks as escapes, not fail."""
    codecs.register_error(_ESCAPES, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a host program may have replaced the stream
            stream.reconfigure(errors=_ESCAPES)


def clean_up_when_ended() -> None:
    """Let a command that receives a signal to end, by `kill` or a closed terminal, first remove its incomplete files.

    Without this, the system ends the process at once. A signal that is ignored, as with `nohup`, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # of a host program, whose signals these are
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
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
