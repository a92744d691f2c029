"""What is remembered of the content of a database: the most that it held within the last half to whole day. Pure.

Rows that become fewer in small steps are compared with the start of the steps, not with the last one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from collectors.content_loss.judge import ContentFacts, ContentLoss, measure_content_loss

# Seconds after which the marks become the former ones, and the former ones are forgotten.
MARKS_LAST = 43200.0


@dataclass(frozen=True, slots=True)
class ContentMemory:
    """High-water marks since `begun` (`marks`) and of the time before that (`former`).

    `may_drain`: the tables, in lower case, that a person accepted as empty: their rows come and go.
    `path`: of the file, since a name may be given to another one.
    `accepted_at`: a person said then that the content is as it should be; nothing older counts. Seconds since the epoch.
    """

    marks: ContentFacts | None = None
    former: ContentFacts | None = None
    begun: float = 0.0
    accepted_at: float = 0.0
    path: str = ""
    may_drain: frozenset[str] = frozenset()

    def of_file(self, path: str) -> "ContentMemory":
        """This memory, or a new one where it is of another file."""
        return replace(self, path=path) if self.path in ("", path) else ContentMemory(path=path)

    def excuse_tables(self, facts: ContentFacts) -> ContentFacts:
        """The reading, whose tables that were accepted as empty drain as those of the profile do."""
        return replace(facts, draining=facts.draining | self.may_drain) if self.may_drain else facts

    def baselines(self) -> tuple[ContentFacts, ...]:
        """What later readings are held against."""
        return tuple(
            facts for facts in (self.marks, self.former) if facts is not None and facts.time >= self.accepted_at
        )


def remember_facts(memory: ContentMemory, facts: ContentFacts) -> ContentMemory:
    """The memory with a reading that has lost nothing."""
    if memory.marks is None or memory.marks.time < memory.accepted_at:
        return replace(memory, marks=facts, former=None, begun=facts.time)
    if not 0 <= facts.time - memory.begun < MARKS_LAST:
        return replace(memory, marks=facts, former=memory.marks, begun=facts.time)
    former = memory.former if memory.former in memory.baselines() else None
    return replace(memory, marks=_raise_marks(memory.marks, facts), former=former)


def greatest_loss(baselines: Iterable[ContentFacts], facts: ContentFacts) -> ContentLoss | None:
    """The greatest loss against any of these; None where nothing is known of before."""
    losses = (measure_content_loss(before, facts) for before in baselines)
    return max(losses, key=lambda loss: loss.share, default=None)


def encode_memory(memory: ContentMemory) -> str:
    """The memory as JSON."""
    return json.dumps(asdict(memory), ensure_ascii=False, default=sorted)


def decode_memory(text: str) -> ContentMemory:
    """The memory in this JSON; an empty one where it is not what we wrote: then it begins anew."""
    try:
        values = json.loads(text)
        marks, former = _decode_facts(values["marks"]), _decode_facts(values["former"])
        begun, accepted_at = float(values["begun"]), float(values["accepted_at"])
        drained = frozenset(str(table) for table in values.get("may_drain", ()))
        return ContentMemory(marks, former, begun, accepted_at, str(values["path"]), drained)
    except (ValueError, KeyError, TypeError):
        return ContentMemory()


def _raise_marks(marks: ContentFacts, facts: ContentFacts) -> ContentFacts:
    """The larger numbers of both; what is no number is as it was read last."""
    return ContentFacts(
        time=facts.time,
        rows=_larger_numbers(marks.rows, facts.rows),
        numbers=_larger_numbers(marks.numbers, facts.numbers),
        draining=facts.draining or marks.draining,
        pages=facts.pages,
        schema_version=facts.schema_version,
        shrinks_itself=facts.shrinks_itself,
    )


def _larger_numbers(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {name: max(first.get(name, 0), second.get(name, 0)) for name in (*first, *second)}


def _decode_facts(values: Any) -> ContentFacts | None:
    if values is None:
        return None
    known = {field.name: values[field.name] for field in fields(ContentFacts)}
    return ContentFacts(**{**known, "draining": frozenset(known["draining"])})
