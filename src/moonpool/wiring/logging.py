"""One JSON object a line on stderr, from our own loggers and from every library's.

{"time": "…Z", "level": "warning", "module": "chat", "instance": "chat-0-…", "event": "…", …}
"""

import contextlib
import logging
import os
from collections.abc import MutableMapping
from typing import Any, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
NOISY = ("uvicorn", "alembic", "httpx", "httpcore", "aiosqlite", "asyncio")
"""Loggers that tell every step of theirs: heard from warnings up."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode


class LineWriter:
    """Writes whole lines to a descriptor. A full disk loses lines, not requests."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def msg(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, line + b"\n")

    log = debug = info = warning = warn = error = critical = fatal = exception = msg


def set_up(*, module: str, instance: str, level: str, fd: int = 2) -> FilteringBoundLogger:
    """Set up logging for the whole process; the process's own logger."""
    number = LEVELS.get(level.lower(), logging.INFO)
    writer = LineWriter(fd)
    fields = {"module": module, "instance": instance}
    chain = processors(fields)
    structlog.configure(
        processors=chain,
        wrapper_class=cast("type[FilteringBoundLogger]", _Levelled.at(number)),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    handler = _Bridge(chain, writer)
    logging.basicConfig(handlers=[handler], force=True)
    _set_standard(number)
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def set_level(level: str) -> None:
    """For the whole process, from now on: every logger that there is follows. Before `set_up`: nothing."""
    number = LEVELS.get(level.lower(), logging.INFO)
    wrapper = structlog.get_config()["wrapper_class"]
    if isinstance(wrapper, _Levelled):
        wrapper.become(number)
        _set_standard(number)


def _set_standard(number: int) -> None:
    logging.getLogger().setLevel(number)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class _Levelled(type):
    """A class of loggers whose level can change: a method below it is one that does nothing, as structlog has
    it, and changing the class changes all loggers at once. That a line is not wanted still costs nothing."""

    @classmethod
    def at(cls, number: int) -> "_Levelled":
        made = cls("LevelledLogger", (structlog.make_filtering_bound_logger(logging.DEBUG),), {})
        made.become(number)
        return made

    def become(cls, number: int) -> None:
        pattern = structlog.make_filtering_bound_logger(number)
        for name in _METHODS:
            setattr(cls, name, getattr(pattern, name))


_METHODS = tuple(
    f"{prefix}{name}"
    for name in ("debug", "info", "msg", "warning", "warn", "error", "critical", "fatal", "exception", "log")
    for prefix in ("", "a")
)


def processors(fields: dict[str, str]) -> list[Processor]:
    def with_fields(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**fields, **event}

    return [
        structlog.contextvars.merge_contextvars,
        with_fields,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _in_order,
    ]


def _in_order(_: object, __: str, event: MutableMapping[str, Any]) -> bytes:
    """The last processor: the fields that every line has come first."""
    first = {key: event.pop(key, "") for key in ("time", "level", "module", "instance", "event")}
    return _encode({**first, **event})


class _Bridge(logging.Handler):
    """Standard library records, in the same form."""

    def __init__(self, chain: list[Processor], writer: LineWriter) -> None:
        super().__init__()
        self._chain = chain
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        method = record.levelname.lower()
        event: Any = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        for processor in self._chain:
            event = processor(None, method, event)
        self._writer.msg(event)
