from __future__ import annotations

import io
import json
import logging
from typing import Literal

import numpy as np
import pytest

from motserve.config import LoggingConfig
from motserve.config.logs import setup_logging

logger = logging.getLogger("motserve.test")


def test_a_record_is_one_line_of_json_with_its_fields() -> None:
    stream = io.StringIO()
    setup_logging(LoggingConfig(), stream)
    logger.info("frame %d\ndone", 3, extra={"video_id": "v1", "frame": np.int64(3)})
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "INFO", "logger": "motserve.test", "message": "frame 3\ndone", "video_id": "v1", "frame": 3
    }  # fmt: skip


def test_an_exception_stays_on_its_line() -> None:
    stream = io.StringIO()
    setup_logging(LoggingConfig(), stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed", stack_info=True)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert "ValueError: broken" in record["exception"]
    assert "test_logs.py" in record["stack"]


@pytest.mark.parametrize("value", [{1: 2}, 2**70, "name\udcff.mp4", object(), {"a": {1, 2}}])
def test_every_value_can_be_logged(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    setup_logging(LoggingConfig(), stream)
    logger.warning("odd", extra={"value": value})
    assert json.loads(stream.getvalue())["message"] == "odd"
    assert not capsys.readouterr().err


def test_private_fields_of_libraries_are_left_out() -> None:
    stream = io.StringIO()
    setup_logging(LoggingConfig(), stream)
    logger.info("done", extra={"_stamp_of_a_library": 1})
    assert "_stamp_of_a_library" not in json.loads(stream.getvalue())


def test_level_and_text_format() -> None:
    stream = io.StringIO()
    setup_logging(LoggingConfig(level="WARNING", format="text"), stream)
    logger.info("hidden")
    logger.warning("shown")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("WARNING motserve.test: shown")


def test_a_second_setup_replaces_the_first_and_keeps_the_root_handlers() -> None:
    root = logging.getLogger().handlers[:]
    first, second = io.StringIO(), io.StringIO()
    setup_logging(LoggingConfig(), first)
    setup_logging(LoggingConfig(), second)
    logger.info("once")
    assert not first.getvalue()
    assert len(second.getvalue().splitlines()) == 1
    assert logging.getLogger().handlers == root


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_name_that_is_not_utf8_is_written_as_people_see_it(
    form: Literal["json", "text"], capsys: pytest.CaptureFixture[str]
) -> None:
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding="utf-8")
    setup_logging(LoggingConfig(format=form), stream)
    logger.warning("%s is broken", "caf\udce9.mp4", extra={"video": "caf\udce9.mp4"})
    stream.flush()
    written = data.getvalue().decode()
    assert r"caf\xe9.mp4 is broken" in (json.loads(written)["message"] if form == "json" else written)
    assert not capsys.readouterr().err
