"""Terminal output: text that the encoding cannot express, and errors on one line."""

from __future__ import annotations

import codecs
import io
import sys
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


def say_error(message: str) -> None:
    """Print an error message as one line on standard error; messages of libraries have several."""
    line = escape(readable(" ".join(message.splitlines())))
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {line}", highlight=False)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = readable(error.object[error.start : error.end])
    return text.encode(error.encoding, "backslashreplace").decode(error.encoding), error.end
