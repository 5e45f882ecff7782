"""A line of a log, the same for web, worker, model server and trainer: what happened, and for which request.

For people by default; with `PALATE_LOG_FORMAT=json` one JSON object per line. A request's id travels with whatever it
causes: into its background jobs, from there to the trainer and the model server. Messages and fields name things by
their ids; what people or models wrote, passwords and tokens have no place in them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

FORMAT_VARIABLE = "PALATE_LOG_FORMAT"
LEVEL_VARIABLE = "PALATE_LOG_LEVEL"
REQUEST_VARIABLE = "PALATE_REQUEST_ID"
"""Hands a request's id to a process that is started for it."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request on whose behalf something is done, if any; follows it into threads."""


def configure_logs(process: str, *, environment: Mapping[str, str] = os.environ, stream: TextIO | None = None) -> None:
    """Have all that this process logs, libraries included, written to `stream` (standard error) in the chosen form.

    A process that was started for a request goes on under its id.
    """
    request_id.set(environment.get(REQUEST_VARIABLE))
    as_json = is_json(environment)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(process) if as_json else TextLines())
    logging.basicConfig(level=environment.get(LEVEL_VARIABLE, "INFO").upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpx2", "httpcore", "alembic", "procrastinate", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def is_json(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether logs are for programs to read."""
    return environment.get(FORMAT_VARIABLE, "text") == "json"


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a call gave beside its message: `log.info("…", extra={"fields": {"run_id": 3}})`."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


class JsonLines(logging.Formatter):
    """One JSON object per line, for whoever collects logs. Absent values are left out."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self.process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **fields_of(record),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        given = {name: value for name, value in line.items() if value is not None}
        return json.dumps(given, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """One line for people: when, what, and in brackets what it concerns."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, and below it the traceback of an error."""
        about = {**fields_of(record), "request": request_id.get()}
        told = " ".join(f"{name}={value}" for name, value in about.items() if value is not None)
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        at = datetime.fromtimestamp(record.created, UTC)
        line = f"{at:%Y-%m-%d %H:%M:%S} {level}{record.getMessage()}" + (f" [{told}]" if told else "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def readable(line: str) -> str:
    """A line of either form as people read it; whatever is no line of ours stays as it is."""
    try:
        given = json.loads(line)
        told = f"{datetime.fromisoformat(given['at']):%Y-%m-%d %H:%M:%S} {given['message']}"
    except (ValueError, KeyError, TypeError):
        return line
    return f"{told}\n{given['exception']}" if given.get("exception") else told
