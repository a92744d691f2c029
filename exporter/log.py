"""Logs to standard error: one line for each event, `key=value` or JSON. Callers never pass a secret.

logfmt as Prometheus writes it: a value is quoted when it has a space, a quote, an equals sign, a control character, or a
character that changes the direction of text.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["logfmt", "json"]
LEVELS = ("debug", "info", "warn", "error")

PACKAGES = ("exporter", "actions", "collectors")
_PLAIN = re.compile(r'[^\s"=\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+')
_PYTHON_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def log_event(logger: logging.Logger, level: int, message: str, **values: object) -> None:
    """Log one event with its values; a value of None is left out."""
    logger.log(level, message, extra={"values": values})


def configure_logging(level: str = "info", form: LogFormat = "logfmt", stream: TextIO | None = None) -> None:
    """Send log lines to `stream` (default: standard error): queuekeeper's from `level` on, of libraries from warnings on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(_PYTHON_LEVELS[level])


def _record_fields(record: logging.LogRecord) -> dict[str, object]:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    level = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
    fields: dict[str, object] = {"ts": moment, "level": level, "msg": record.getMessage()}
    if record.name.partition(".")[0] not in PACKAGES:
        fields["logger"] = record.name
    fields |= {k: v for k, v in getattr(record, "values", {}).items() if v is not None}
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    return fields


class _LogfmtFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quote_value(value)}" for key, value in _record_fields(record).items())


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_record_fields(record), default=str)


def _quote_value(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
