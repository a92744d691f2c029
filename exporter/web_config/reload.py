"""Reloads the web configuration as soon as one of its files changed; the last valid one stays in effect until then.

It is checked at every request and every connection, so that a renewed certificate, a new user or another header needs no
reload. An invalid file changes nothing, is logged once, and is in `problems`.
"""

import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from exporter.config.problems import ConfigErrors
from exporter.log import log_event
from exporter.web_config.load import load
from exporter.web_config.settings import WebConfig

LOG = logging.getLogger(__name__)
RETRY_DELAY = 1.0
FileMarks = tuple[tuple[int, int, int, int] | None, ...]


class ReloadingWebConfig:
    """The web configuration of one file, or the default without a file.

    Raises ConfigErrors for an invalid file at the start.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._again_at = 0.0
        self.problems: tuple[str, ...] = ()
        self._config, self._seen = (WebConfig(), ()) if path is None else _load_with_marks(path)
        if self._config.http2_asked:
            log_event(LOG, logging.INFO, "http2 is accepted but not used: clients fall back to HTTP/1.1", file=path)

    def current_config(self) -> WebConfig:
        """Return the configuration in effect now. Never raises."""
        if self._path is None:
            return self._config
        with self._guard:
            retry = bool(self.problems) and time.monotonic() >= self._again_at
            if retry or _file_marks(self._config.files) != self._seen:
                self._reload_config(self._path)
            return self._config

    def _reload_config(self, path: Path) -> None:
        marks = _file_marks(self._config.files)
        try:
            config, seen = _load_with_marks(path)
            _check_same_transport(path, self._config, config)
        except ConfigErrors as error:
            self._keep_former(error.lines, marks)
        else:
            self._config, self._seen, self.problems = config, seen, ()
            log_event(LOG, logging.INFO, "web configuration reloaded", file=path)

    def _keep_former(self, reasons: tuple[str, ...], marks: FileMarks) -> None:
        """Keep the former configuration.

        The error may be in a file that only the invalid one names, so retry, but not at every request.
        """
        self._seen, self._again_at = marks, time.monotonic() + RETRY_DELAY
        if reasons == self.problems:
            return
        self.problems = reasons
        for reason in reasons:
            log_event(LOG, logging.ERROR, "web configuration rejected, the former one stays in effect", reason=reason)


def _check_same_transport(path: Path, before: WebConfig, now: WebConfig) -> None:
    if (before.tls is None) != (now.tls is None):
        raise ConfigErrors((f"{path}: switching TLS on or off needs a restart",))


def _load_with_marks(path: Path) -> tuple[WebConfig, FileMarks]:
    """Load the configuration, with marks from before its files were read, so that a change during the load is noticed."""
    marks = _file_marks(load(path).files)
    return load(path), marks


def _file_marks(files: Iterable[Path]) -> FileMarks:
    return tuple(_file_mark(file) for file in files)


def _file_mark(file: Path) -> tuple[int, int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
