"""The job that a caller sends to its child, as JSON on the first line of the child's input."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from actions.model.request import Request
from actions.policy.windows import Window
from actions.store.runs import Claim
from collectors.target import Target


@dataclass(frozen=True, slots=True)
class Job:
    """One run to execute, or (claim None) one plan to make. `trust_owner`: checkpoint_vulnerable_owner.

    `window`: the one configured for this action; `fresh_backup`: how old the newest verified backup may be, in
    seconds, before an automatic run that destroys something. Neither binds a person.
    """

    request: Request
    target: Target
    state: Path
    claim: Claim | None
    trust_owner: bool = False
    window: Window | None = None
    fresh_backup: float = 86400.0


_JOB_ADAPTER: TypeAdapter[Job] = TypeAdapter(Job)


def encode_job(job: Job) -> bytes:
    """The job as one line."""
    return _JOB_ADAPTER.dump_json(job) + b"\n"


def decode_job(line: bytes) -> Job:
    """The job of one line. Raises pydantic's ValidationError."""
    return _JOB_ADAPTER.validate_json(line)
