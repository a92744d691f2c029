"""The web configuration as it is now: read again as soon as one of its files changed, the last good one kept.

It is asked at every request and every connection, so a renewed certificate, a new user or another header needs no
reload. What cannot be used changes nothing, is logged once, and is told by `problems`.
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
    """Of one file, or of none at all. Raises ConfigErrors where the file cannot be used at the start."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._again_at = 0.0
        self.problems: tuple[str, ...] = ()
        self._config, self._seen = (WebConfig(), ()) if path is None else _load_with_marks(path)
        if self._config.http2_asked:
            log_event(LOG, logging.INFO, "http2 is taken but not spoken: clients agree on HTTP/1.1", file=path)

    def current_config(self) -> WebConfig:
        """What holds now. Never raises."""
        if self._path is None:
            return self._config
        with self._guard:
            wrong = bool(self.problems) and time.monotonic() >= self._again_at
            if wrong or _file_marks(self._config.files) != self._seen:
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
            log_event(LOG, logging.INFO, "web configuration read again", file=path)

    def _keep_former(self, reasons: tuple[str, ...], marks: FileMarks) -> None:
        """What was wrong may lie in a file that only the bad configuration names: look again, but not at every request."""
        self._seen, self._again_at = marks, time.monotonic() + RETRY_DELAY
        if reasons == self.problems:
            return
        self.problems = reasons
        for reason in reasons:
            log_event(LOG, logging.ERROR, "web configuration not read again, the former one goes on", reason=reason)


def _check_same_transport(path: Path, before: WebConfig, now: WebConfig) -> None:
    if (before.tls is None) != (now.tls is None):
        raise ConfigErrors((f"{path}: TLS is switched on or off by a restart only",))


def _load_with_marks(path: Path) -> tuple[WebConfig, FileMarks]:
    """The configuration, and marks taken before its files were read: what changes meanwhile is seen as a change."""
    marks = _file_marks(load(path).files)
    return load(path), marks


def _file_marks(files: Iterable[Path]) -> FileMarks:
    return tuple(_file_mark(file) for file in files)


def _file_mark(file: Path) -> tuple[int, int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
