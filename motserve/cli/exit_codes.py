"""The exit codes of commands for the errors of motserve."""

from __future__ import annotations

from typing import Final

from motserve import errors

UNEXPECTED: Final = 1
"""Exit code of a failure that is not the user's."""

_EXIT_CODES: Final[dict[type[errors.MotserveError], int]] = {
    errors.InvalidConfig: 2,
    errors.MissingExtra: 2,
    errors.InvalidVideo: 3,
    errors.InvalidData: 3,
    errors.NotFound: 3,
    errors.Conflict: 3,
    errors.IncompatibleStore: 3,
    errors.WeightsUnavailable: 4,
}


def exit_code_of(error: errors.MotserveError) -> int:
    """Return the exit code of a command that an error ends: 2 to 4 for wrong input, else `UNEXPECTED`."""
    return errors.nearest(_EXIT_CODES, type(error), UNEXPECTED)
