"""The events that a running action sends to its caller: JSON lines of at most 4096 bytes, sent without waiting.

A caller that stops reading must never delay a child, least of all with the WAL pinned: the pipe is non-blocking,
writes of up to 4096 bytes are atomic (POSIX PIPE_BUF), what does not fit is dropped. History has the truth.
Never emitted inside a transaction.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from actions.model.plan import Figure

MAX_EVENT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: planned, started, progress, note, ended. `figures` carry numbers (`done` of `total` for progress)."""

    kind: str
    message: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)


_EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)
# How many characters of each text are sent, tried in turn. One character takes at most six bytes.
_TEXT_LIMITS = (MAX_EVENT_BYTES, 500, 100, 25)


def encode_event(event: Event) -> bytes:
    """The event as one line. If it is too long, every text is cut, and at last all figures but the outcome are dropped."""
    for longest in _TEXT_LIMITS:
        line = _json_line(event.kind, event.message[:longest], _cut_texts(event.figures, longest))
        if len(line) <= MAX_EVENT_BYTES:
            return line
    outcome = {name: value for name, value in event.figures.items() if name == "outcome"}
    return _json_line(event.kind, event.message[: _TEXT_LIMITS[-1]], _cut_texts(outcome, _TEXT_LIMITS[-1]))


def decode_event(line: bytes | str) -> Event:
    """The event of one line. Raises ValueError on anything else."""
    return _EVENT_ADAPTER.validate_json(line)


def _json_line(kind: str, message: str, figures: Mapping[str, Figure]) -> bytes:
    text = json.dumps({"kind": kind, "message": message, "figures": figures}, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"  # a path that is not UTF-8 has lone surrogates in it: no JSON


def _cut_texts(figures: Mapping[str, Figure], longest: int) -> dict[str, Figure]:
    return {name[:longest]: value[:longest] if isinstance(value, str) else value for name, value in figures.items()}


class EventPipe:
    """The child's end of the pipe. `closed`: it has no reader any more. The caller's death is noticed by the input only."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self.closed = False

    def emit(self, event: Event) -> None:
        """Send the event if the pipe has room and a reader; never wait."""
        if self.closed:
            return
        try:
            os.write(self._descriptor, encode_event(event))
        except BlockingIOError:
            pass  # the caller does not read: dropped
        except OSError:
            self.closed = True  # an action never fails because its events have no reader
