"""What a running action tells its caller: JSON lines of at most 4096 bytes, never waited for.

A caller that stops reading must never hold a child up, least of all with the WAL pinned: the pipe is non-blocking,
writes of up to 4096 bytes are atomic (POSIX PIPE_BUF), what does not fit is dropped. History has the truth.
Never emitted inside a transaction.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from actions.run.plan import Figure

MAX_EVENT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: planned, started, progress, note, ended. `figures` carry numbers (`done` of `total` for progress)."""

    kind: str
    message: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)


_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def encode(event: Event) -> bytes:
    """One line; an event that is too long loses its figures, then the end of its message."""
    line = _line(event.kind, event.message, dict(event.figures))
    if len(line) > MAX_EVENT_BYTES:
        line = _line(event.kind, event.message[:500], {})
    return line


def decode(line: bytes | str) -> Event:
    """The event of one line. Raises ValueError on anything else."""
    return _EVENT.validate_json(line)


def _line(kind: str, message: str, figures: dict[str, Figure]) -> bytes:
    return json.dumps({"kind": kind, "message": message, "figures": figures}).encode() + b"\n"


class EventPipe:
    """The child's end. `closed` turns true when nobody can ever read again: the action stops at its next safe point."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self.closed = False

    def emit(self, event: Event) -> None:
        """Say it if somebody listens; never wait."""
        if self.closed:
            return
        try:
            os.write(self._descriptor, encode(event))
        except BlockingIOError:
            pass  # the caller does not read: dropped
        except BrokenPipeError:
            self.closed = True
