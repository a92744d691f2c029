"""One event is one line, for any values."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from exporter import log

LOG = logging.getLogger("exporter.test")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in log.PACKAGES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def written(form: log.LogFormat, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure_logging(level, form, stream)
    return stream


def test_logfmt_quotes_what_would_break_the_line() -> None:
    stream = written("logfmt")
    log.log_event(
        LOG, logging.INFO, "backup finished", database="jobs", plan='a "b"\nlevel=error', size=3, gone=None, empty=""
    )
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(
        ' level=info msg="backup finished" database=jobs plan="a \\"b\\"\\nlevel=error" size=3 empty=""'
    )
    assert line.startswith("ts=2")


def test_json_is_one_object_a_line() -> None:
    stream = written("json")
    log.log_event(LOG, logging.WARNING, "x\ny", path="a\nb", number=1.5)
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["msg"], fields["path"], fields["number"]) == ("warn", "x\ny", "a\nb", 1.5)


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_the_level_bounds_what_is_said(level: str, lines: int) -> None:
    stream = written("logfmt", level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log_event(LOG, number, "x")
    assert len(stream.getvalue().splitlines()) == lines


def test_libraries_are_heard_from_warnings_on_and_named() -> None:
    stream = written("logfmt", "debug")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.error").warning("odd")
    assert stream.getvalue().splitlines()[0].endswith("level=warn msg=odd logger=uvicorn.error")


def test_an_exception_is_one_line_too() -> None:
    stream = written("logfmt")
    LOG.error("failed", exc_info=ValueError("two\nlines"))
    (line,) = stream.getvalue().splitlines()
    assert line.endswith('error="ValueError: two\\nlines"')
