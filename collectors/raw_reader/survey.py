"""One exchange with the raw reader for everything that one poll asks of it about one database.

A question costs two switches between processes: with a thousand databases, three questions each are most of a poll.
"""

from pathlib import Path
from typing import Any

from collectors.raw_reader.client import RawReader
from collectors.raw_reader.lock_usage import LockUsage


class SurveyedReader(RawReader):
    """`raw`, with the usual questions about `path` answered in advance, at the first of them. For one poll only.

    Each answer is given once: who asks a second time gets what is true by then.
    """

    def __init__(self, raw: RawReader, path: Path) -> None:
        self._raw, self._path = raw, path
        self._answers: dict[str, Any] | None = None

    def query_reader(self, what: str, path: Path | None) -> Any:
        """The answer in advance, or the reader's. Raises as RawReader does."""
        if path != self._path:
            return self._raw.query_reader(what, path)
        if self._answers is None:
            self._answers = self._raw.survey_database(path)
        answer = self._answers.pop(what, None)
        return self._raw.query_reader(what, path) if answer is None else self.unwrap_answer(answer, path)

    def release_wal(self, path: Path) -> None:
        """At the reader."""
        self._raw.release_wal(path)

    def read_lock_usage(self, path: Path) -> LockUsage:
        """By the reader's accounts: it keeps them for all."""
        return self._raw.lock_uses.usage_since_last(path, self.query_reader)

    def close(self) -> None:
        """The reader is another's: it goes on."""
