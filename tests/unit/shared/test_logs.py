"""The services' own log lines: JSON, one line each, and never what an exception quotes."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from shared.link import ReplyError
from shared.logs import JsonLines, configure_logging


def line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines("worker").format(record)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("a.b").makeRecord("a.b", logging.WARNING, "f", 1, message, args, None, extra=extra)


def test_a_line_has_its_time_level_service_event_and_fields() -> None:
    told = line(record("claimed %s", "x", chat_id="c\n\u2028", n=3))
    assert {key: told[key] for key in ("level", "service", "logger", "event", "chat_id", "n")} == {
        "level": "warning", "service": "worker", "logger": "a.b", "event": "claimed x", "chat_id": "c\n\u2028", "n": 3,
    }  # fmt: skip
    assert told["time"].endswith("Z")


def test_a_field_that_is_no_json_is_written_as_it_shows() -> None:
    assert line(record("x", odd=object))["odd"] == "<class 'object'>"


def test_an_exception_is_its_type_and_its_place_and_not_its_message() -> None:
    try:
        raise ValueError("the prompt was: my secret")
    except ValueError:
        made = logging.getLogger("a").makeRecord("a", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    told = line(made)
    assert told["error_type"] == "ValueError"
    assert "test_an_exception_is_its_type" in told["frames"][-1]
    assert "secret" not in json.dumps(told)


def test_what_redis_refused_is_told_without_the_commands_arguments() -> None:
    try:
        raise ReplyError("ERR unknown command 'EVALSHA', with args beginning with: 'my secret' ")
    except ReplyError:
        made = logging.getLogger("a").makeRecord("a", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    assert line(made)["redis_said"] == "ERR unknown command 'EVALSHA'"


def test_talkative_libraries_are_kept_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        configure_logging("gateway", "debug")
        logging.getLogger("openai").info("Request body: secret")
        logging.getLogger("tailrace").debug("told")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(each)["event"] for each in lines] == ["told"]
