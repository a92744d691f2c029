"""Events: one line that fits into the pipe's atomic write, with any text."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from actions.model.events import MAX_EVENT_BYTES, Event, decode_event, encode_event

TEXT = st.text(st.characters(), max_size=6000)  # with lone surrogates, as in a path that is not UTF-8
FIGURES = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.floats(), st.booleans(), st.none()), max_size=8)


@given(st.sampled_from(["planned", "progress", "note", "ended"]), TEXT, FIGURES)
@example("ended", "\U0001f600" * 5000, {})
@example("ended", "\x00" * 5000, {"outcome": "done", "next_step": "\ud800" * 5000})
@example("planned", "x" * 5000, {"outcome": "done", "victims": "y" * 5000})
def test_an_event_is_one_line_that_fits_and_can_be_read(kind: str, message: str, figures: dict[str, object]) -> None:
    line = encode_event(Event(kind, message, figures))
    assert len(line) <= MAX_EVENT_BYTES
    assert line.count(b"\n") == 1
    event = decode_event(line)
    assert event.kind == kind
    short = len(json.dumps([message, list(figures.items())])) < MAX_EVENT_BYTES // 2
    if short:
        assert len(event.message) == len(message)
        assert set(event.figures) == {name.encode("utf-8", "replace").decode() for name in figures}


@given(TEXT, TEXT)
def test_an_event_too_long_keeps_its_outcome(message: str, next_step: str) -> None:
    event = decode_event(
        encode_event(Event("ended", message * 3, {"next_step": next_step, "outcome": "refused", "list": "x" * 9000}))
    )
    assert event.figures["outcome"] == "refused"
