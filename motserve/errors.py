"""The typed errors. The command line maps them to exit codes, the ingress to HTTP statuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


class MotserveError(Exception):
    """Base of all errors of motserve. The message says what is wrong, with which input, and what to do."""


def nearest(table: Mapping[type[MotserveError], Value], kind: type[BaseException], default: Value) -> Value:
    """Return the entry of a class of errors in a table, or that of the nearest class that it is derived from."""
    return next((table[base] for base in kind.__mro__ if base in table), default)


class InvalidConfig(MotserveError):
    """A configuration file, override or environment variable is not valid."""


class MissingExtra(InvalidConfig):
    """A package is missing that an extra of motserve installs. The message names the extra."""


class InvalidVideo(MotserveError):
    """The input is not a video that can be decoded: another file type, truncated, without frames, audio only."""


class InvalidPicture(MotserveError):
    """The input is not an image that can be decoded, or is too small to show a person."""


class InvalidData(MotserveError):
    """A file with detections, ground truth or results is malformed."""


class UnfitCheckpoint(MotserveError):
    """A session cannot resume from a checkpoint: it is damaged, or of another release, configuration or model."""


class IncompatibleStore(MotserveError):
    """A store, or a backup of one, was written by a later release, is incomplete, or is something else."""


class WeightsUnavailable(MotserveError):
    """None of the configured weights is available."""


class BadRequest(MotserveError):
    """The request itself is malformed: an empty body, a form without a file."""


class UnsupportedMedia(MotserveError):
    """The request body is of a type that the service does not take."""


class Unauthorized(MotserveError):
    """The request has no token or a wrong one, and its route requires it."""


class NotFound(MotserveError):
    """The requested object does not exist."""


class Conflict(MotserveError):
    """The request does not fit the current state, such as a request for the tracks of a failed video."""


class Forbidden(MotserveError):
    """The request needs a folder or a right that is not allowed."""


class TooLarge(MotserveError):
    """The input is larger than the service accepts."""


class TooSlow(MotserveError):
    """A request does not arrive."""


class UnsatisfiableRange(MotserveError):
    """The request is for a part of a file that begins after its end.

    Attributes:
        size: Size of the file in bytes.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message, size)  # both, because errors travel between processes by their arguments
        self.size = size

    def __str__(self) -> str:
        return str(self.args[0])


class DiskFull(MotserveError):
    """A disk has no free space for what is to be written."""


class OutOfMemory(MotserveError):
    """A video needs more memory than its session may use."""


class NotReady(MotserveError):
    """A part of the service does not answer yet, or no longer answers."""


class Overloaded(MotserveError):
    """The service is at its capacity; try again later.

    Attributes:
        retry_after_s: Seconds after which the client can try again.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s)  # both, because errors travel between processes by their arguments
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])
