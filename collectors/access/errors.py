"""Describes a failed reading: a short stable word for a label, and a sentence for a person.

SQLite's own texts mislead in places: "disk I/O error" also stands for a checkpoint on a read-only connection,
"attempt to write a readonly database" for a directory or a journal that the reader may not use
(https://sqlite.org/rescode.html). The extended code decides.
"""

import errno
from typing import Any

import apsw

from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.errors import ProfileError
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable


class NotAtRest(Exception):
    """The database is not at rest, or it cannot be proved that it was during the whole reading; the message says why."""


class PartialReading(Exception):
    """Only a part could be read: it is published, and the collector reports the rest as failed.

    `reading` has what could be read; `word` is the reason as a label, the message a sentence.
    """

    def __init__(self, message: str, reading: Any, word: str) -> None:
        super().__init__(message)
        self.reading = reading
        self.word = word


class SlowReadingFailed(Exception):
    """A reading on the slow timer failed, now or at its last try: `remember` is the collector's memory of it."""

    def __init__(self, word: str, sentence: str, remember: Any) -> None:
        super().__init__(sentence)
        self.word, self.remember = word, remember


# What a reading may raise without being a defect of ours. ValueError: text in the database that is no valid UTF-8.
EXPECTED_ERRORS = (
    apsw.Error,
    OSError,
    RawReaderUnavailable,
    LockTableUnseen,
    TimeLimitExceeded,
    ProfileError,
    ValueError,
    SlowReadingFailed,
    NotAtRest,
)

_OURS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeLimitExceeded, "timeout"),
    (RawReaderUnavailable, "raw_reader"),
    (LockTableUnseen, "locks_unseen"),
    (ProfileError, "profile"),
    (NotAtRest, "owner_down"),
)
_EXTENDED = {
    apsw.SQLITE_READONLY_ROLLBACK: ("hot_journal", "an interrupted transaction waits for its owner to roll it back"),
    apsw.SQLITE_READONLY_DIRECTORY: ("permission", "the files of the WAL are missing and may not be created here"),
    apsw.SQLITE_IOERR_SHORT_READ: ("corrupt", "the file is shorter than its header says"),
}
_SQLITE: tuple[tuple[type[BaseException], str, str], ...] = (
    (apsw.BusyError, "busy", "another connection holds the database"),
    (apsw.LockedError, "busy", "another connection holds the database"),
    (apsw.NotADBError, "not_a_database", "the file is no SQLite database, or it is encrypted"),
    (apsw.CorruptError, "corrupt", "the database file is damaged: run an integrity check on a copy, restore a backup"),
    (
        apsw.CantOpenError,
        "permission",
        "our rights do not suffice to open the database; run queuekeeper as its owner",
    ),
    (apsw.ReadOnlyError, "permission", "our rights do not suffice to read the database; run queuekeeper as its owner"),
    (
        apsw.PermissionsError,
        "permission",
        "our rights do not suffice to read the database; run queuekeeper as its owner",
    ),
    (apsw.AuthError, "profile", "the queue profile reads what it did not declare"),
    (apsw.InterruptError, "interrupted", "the reading was interrupted"),
    (apsw.IOError, "io", "the system failed to read the file"),
    (apsw.NoMemError, "memory", "there is not enough memory"),
)
_SQL = (("no such table", "no_such_table"), ("no such column", "no_such_column"))
_RIGHTS = "; run queuekeeper as the database's owner, or let its user read the file and enter its directories"
_SYSTEM = {
    errno.ENOENT: ("missing", ""),
    errno.EACCES: ("permission", _RIGHTS),
    errno.EPERM: ("permission", _RIGHTS),
}


def describe_failure(error: BaseException) -> tuple[str, str]:
    """(word, sentence) of an error that a reading raised."""
    if isinstance(error, SlowReadingFailed):
        return error.word, str(error)
    for kind, word in _OURS:
        if isinstance(error, kind):
            return word, str(error)
    if isinstance(error, apsw.Error):
        return _describe_sqlite_error(error)
    if isinstance(error, OSError):
        word, cure = _SYSTEM.get(error.errno or 0, ("io", ""))
        return word, f"{error.strerror or error}{cure}"
    return "bad_value", f"a value in the database cannot be read: {error}"


def reading_after_failure(error: BaseException, previous: Any) -> Any:
    """The reading that a collector remembers after an error: the previous one, unless the error carries another."""
    return error.remember if isinstance(error, SlowReadingFailed) else previous


def _describe_sqlite_error(error: apsw.Error) -> tuple[str, str]:
    if (extended := _EXTENDED.get(getattr(error, "extendedresult", 0))) is not None:
        return extended[0], f"{extended[1]} ({error})"
    for kind, word, sentence in _SQLITE:
        if isinstance(error, kind):
            return word, f"{sentence} ({error})"
    word = next((word for text, word in _SQL if text in str(error)), "sql")
    return ("profile", str(error)) if "prohibited" in str(error) else (word, str(error))
