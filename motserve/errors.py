"""The family of typed errors. The command line turns them into exit codes, the ingress into HTTP statuses."""

from __future__ import annotations


class MotserveError(Exception):
    """Base of everything that motserve raises on purpose. The message says what, with which input, what to do."""


class InvalidConfig(MotserveError):
    """A configuration file, override or environment variable is not valid."""


class InvalidVideo(MotserveError):
    """The input is no video that can be decoded: not a video, truncated, without frames, audio only."""


class InvalidPicture(MotserveError):
    """The input is no picture that can be decoded, or too small to show a person."""


class InvalidData(MotserveError):
    """A file with detections, ground truth or results is malformed."""


class UnfitCheckpoint(MotserveError):
    """A checkpoint cannot be continued: it is damaged, or of another release, configuration or model."""


class IncompatibleStore(MotserveError):
    """A store, or a backup of one, was written by a later release, is incomplete, or is something else."""


class WeightsUnavailable(MotserveError):
    """None of the configured weights can be had."""


class BadRequest(MotserveError):
    """The request itself is malformed: an empty body, a form without a file."""


class UnsupportedMedia(MotserveError):
    """The request body is of a type that the service does not take."""


class Unauthorized(MotserveError):
    """The request lacks the token that its route asks for, or has another one."""


class NotFound(MotserveError):
    """The thing asked for does not exist."""


class Conflict(MotserveError):
    """The request does not fit the present state, such as tracks of a video that failed."""


class Forbidden(MotserveError):
    """The request reaches for something outside what the service may give."""


class TooLarge(MotserveError):
    """The input is larger than the service accepts."""


class DiskFull(MotserveError):
    """A disk has no room for what is to be written."""


class NotReady(MotserveError):
    """A part of the service does not answer yet, or no more."""


class Overloaded(MotserveError):
    """The service is at its capacity; try again later.

    Attributes:
        retry_after_s: Seconds after which another try makes sense.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s)  # both, because errors travel between processes by their arguments
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])
