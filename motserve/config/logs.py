"""Structured logs: one JSON object a line, a logger for each component (`motserve.detection`, …).

Fields such as `video_id` and `frame` are passed as `extra={"video_id": …, "frame": …}` at the call; fields that all
lines of one request have are set once, with `log_fields`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Literal, TextIO

import orjson
from pydantic import Field

from motserve.config.base import Section
from motserve.files.names import encodable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))


class LoggingConfig(Section):
    """Structured logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest severity that is logged.")
    format: Literal["json", "text"] = Field(
        "json", description="`json` for one JSON object per line, `text` for plain lines."
    )


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: time, level, logger, message, then the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        # libraries such as Ray stamp private fields on every record of the process
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD and key[:1] != "_"}
        line.update(extra)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        except TypeError:
            # orjson refuses file names that are not UTF-8, huge numbers and keys that are no text; the line must not be
            # lost
            return json.dumps(encodable(line), default=lambda value: encodable(str(value)))


class TextFormatter(logging.Formatter):
    """Writes a record as a plain line of text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record; file names that are not UTF-8 are escaped."""
        return str(encodable(super().format(record)))


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Add fields to all lines logged in this context, also by tasks started in it; empty values are left out."""
    token = _fields.set({**_fields.get(), **{key: value for key, value in fields.items() if value}})
    try:
        yield
    finally:
        _fields.reset(token)


def _add_fields(record: logging.LogRecord) -> bool:
    for key, value in _fields.get().items():
        vars(record).setdefault(key, value)  # a field of the call wins
    return True


def setup_logging(config: LoggingConfig, stream: TextIO | None = None) -> None:
    """Send the logs of `motserve` and its components to a stream, standard error by default.

    Only the `motserve` logger is touched, so a host application keeps its own logging. Calling it again replaces
    the previous setup.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_add_fields)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    logger = logging.getLogger("motserve")
    logger.handlers = [handler]
    logger.setLevel(config.level)
    logger.propagate = False
