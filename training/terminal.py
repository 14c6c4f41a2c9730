"""What the user of a training command sees: lines of progress, one line for an error, one line after an interruption.

Ray, Ultralytics and MLflow print hundreds of lines, also from other processes and from code below Python. All that goes
to the log file of the job.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from motserve.cli.exit_codes import UNEXPECTED, exit_code_of
from motserve.cli.output.terminal import accept_any_text, clean_up_when_ended, say_error
from motserve.config import LoggingConfig
from motserve.config.logs import setup_logging
from motserve.errors import MotserveError
from motserve.files.names import readable
from training.progress import Say

_CTRL_C: Final = 130
_SIGNALLED: Final = 128  # plus the number of the signal
_OUTPUTS: Final = (1, 2)


@contextmanager
def job_terminal(log: Path, show_logs: bool = False) -> Iterator[Say]:
    """Send all output of this process and of those that it starts to the log file, except the lines of the job.

    Args:
        log: The log file; it is continued if it exists.
        show_logs: Leave all output on the terminal, and use the file for tracebacks only.

    Yields:
        Prints a line on standard error, and writes it to the log file.

    Raises:
        MotserveError: The job failed otherwise than by wrong input; the message is one sentence with the root cause
            and the path of the log file, which has the traceback.
        OSError: The log file cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as file,
        contextlib.ExitStack() as stack,
    ):
        terminal = stack.enter_context(_own_stderr())
        if not show_logs:
            stack.enter_context(_redirected(file))
        setup_logging(LoggingConfig(format="text"))

        def say(line: str) -> None:
            file.write(f"{readable(line)}\n")
            with contextlib.suppress(OSError):  # the reader of a pipe may have ended, which does not end the job
                terminal.write(f"{readable(line)}\n")
                terminal.flush()

        try:
            yield say
        except Exception as error:
            if isinstance(error, MotserveError) and exit_code_of(error) != UNEXPECTED:
                raise
            traceback.print_exception(error, file=file)
            raise MotserveError(f"{cause_of(error)}; the traceback is in {log}") from error


def cause_of(error: BaseException) -> str:
    """Return an error as text on one line, with its type unless it is one of motserve's, whose messages say enough."""
    text = " ".join(str(error).split())
    if isinstance(error, MotserveError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def run(work: Callable[[], object], after_stop: str) -> int:
    """Run a training command; print an error or an interruption as one line.

    Args:
        work: The command.
        after_stop: What the user can do after an interruption.

    Returns:
        The exit code: 0 success, 1 failure, 2 wrong settings, 3 unusable data, 4 weights not available, 130 ended by
        Ctrl-C, 143 by `kill`, 129 by a closed terminal.
    """
    accept_any_text()
    clean_up_when_ended()
    try:
        work()
    except MotserveError as error:
        say_error(str(error))
        return exit_code_of(error)
    except OSError as error:
        say_error(cause_of(error))
        return UNEXPECTED
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped; {after_stop}\n")
        return _CTRL_C
    except SystemExit as end:
        if not isinstance(end.code, int) or end.code <= _SIGNALLED:
            raise
        with contextlib.suppress(OSError):  # the terminal may be closed
            sys.stderr.write(f"stopped; {after_stop}\n")
        return end.code
    return 0


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """Yield a stream of its own to where standard error goes now."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # a host program has replaced the stream by one without a file
        yield sys.stderr
        return
    stream = os.fdopen(descriptor, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, buffering=1)
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):  # of a pipe that nobody reads
            stream.close()


@contextmanager
def _redirected(file: TextIO) -> Iterator[None]:
    """Send standard output and standard error to a file, for this process and for those that it starts.

    Libraries keep the streams that they find, so the streams stay usable: afterwards they lead to the terminal again.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(number) for number in _OUTPUTS]
    output, errors = (
        os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
        for number in _OUTPUTS
    )
    try:
        for number in _OUTPUTS:
            os.dup2(file.fileno(), number)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            yield
    finally:
        output.flush()
        errors.flush()
        for number, saved in zip(_OUTPUTS, before, strict=True):
            os.dup2(saved, number)
            os.close(saved)
