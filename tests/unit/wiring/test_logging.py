import json
import logging
import os

import pytest
import structlog

from moonpool.wiring.logging import LineWriter, set_level, set_up


@pytest.fixture
def lines():
    """Everything that is logged, by a process of module chat, from level info."""
    read, write = os.pipe()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log = set_up(module="chat", instance="chat-0-1", level="info", fd=write)

    def told():
        os.set_blocking(read, False)
        try:
            return [json.loads(line) for line in os.read(read, 65536).splitlines()]
        except BlockingIOError:
            return []

    yield log, told
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()
    os.close(read)
    os.close(write)


def test_every_line_has_the_same_head(lines):
    log, told = lines
    log.warning("disk is slow", ms=12)
    log.debug("not heard")
    (line,) = told()
    assert list(line) == ["time", "level", "module", "instance", "event", "ms"]
    assert line["time"].endswith("Z")
    assert {**line, "time": ""} == {
        "time": "",
        "level": "warning",
        "module": "chat",
        "instance": "chat-0-1",
        "event": "disk is slow",
        "ms": 12,
    }


def test_libraries_speak_the_same_language(lines):
    _, told = lines
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("some.library").exception("it fell: %s", 7)
    logging.getLogger("uvicorn.access").info("not heard")
    (line,) = told()
    assert (line["event"], line["level"], line["logger"]) == ("it fell: 7", "error", "some.library")
    assert "ValueError: no" in line["exception"]


def test_what_is_no_json_is_shown_all_the_same(lines):
    log, told = lines
    log.info("odd", value=object, key={1, 2})
    assert told()[0]["value"] == "<class 'object'>"


def test_a_target_of_a_shared_process_speaks_for_itself(lines):
    log, told = lines
    with structlog.contextvars.bound_contextvars(module="auth", instance="auth-0-1"):
        log.info("here")
    assert told()[0]["module"] == "auth"


def test_a_full_disk_loses_lines_only():
    read, write = os.pipe()
    os.close(read)
    LineWriter(write).msg(b"lost")
    os.close(write)


def test_the_level_changes_for_every_logger_there_is(lines) -> None:
    log, told = lines
    early = log.bind(a=1)
    for level, method in (("error", "warning"), ("debug", "debug"), ("error", "info"), ("info", "info")):
        set_level(level)
        getattr(early, method)(f"{method} at {level}")
        getattr(logging.getLogger("library"), method)(f"their {method} at {level}")
    assert [line["event"] for line in told()] == [
        "debug at debug",
        "their debug at debug",
        "info at info",
        "their info at info",
    ]
