"""Gives tasks whose lease ran out back to the queue, in short transactions beside the live workers.

Runbook: docs/runbook.md#queuestaleleases. What counts as stale is the profile's row set, the same predicate that the gauge
counts; it is evaluated again inside each transaction, so a completion that comes first wins. Each chunk holds the write
lock for at most limits.write_lock, and rests as long as it held.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apsw

from actions.run.errors import ActionError, Failed, NothingToDo, Refused
from actions.run.options import OptionKind
from actions.run.plan import Done, Figure, Plan
from actions.run.work import Work
from actions.writing.connection import writable
from actions.writing.taken_rows import Victim, take, victims
from actions.writing.write_turn import next_size, write_turn
from collectors.queue_profiles.detect import profile_for
from collectors.queue_profiles.schema import ProfileError
from collectors.queue_profiles.taking import CompiledRequeue
from collectors.reading.connection import read_only

NAME = "requeue"
LONG = False
AUTOMATIC = True
MAY_BE_MISSING = False
WINDOWED = False
DESTRUCTIVE = False
OPTIONS = {
    "older_than": OptionKind("seconds", "only leases that ran out at least this long ago, in seconds"),
    "limit": OptionKind("count", "at most this many tasks"),
    "guarded": OptionKind("flag", "the operator's word that the grace is longer than the longest task"),
    "workers_stopped": OptionKind("flag", "no worker runs now", by_person=True),
}

FIRST_CHUNK = 50
LARGEST_CHUNK = 2000
# How long to wait for the write lock; waiting holds nobody up.
LOCK_WAIT = 2.0
SHOWN_VICTIMS = 20


@dataclass(frozen=True, slots=True)
class Moved:
    """What one chunk, or all of them, moved, and how long the write lock was held at most, in seconds."""

    waiting: int = 0
    dead: int = 0
    chunks: int = 0
    longest_hold: float = 0.0

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(
            self.waiting + other.waiting,
            self.dead + other.dead,
            self.chunks + other.chunks,
            max(self.longest_hold, other.longest_hold),
        )

    @property
    def total(self) -> int:
        """Tasks that are no longer stale."""
        return self.waiting + self.dead


def plan(work: Work) -> Plan:
    """Count the victims and show the first. Raises Refused where the profile's gate says no, NothingToDo."""
    limit = _limit(work)
    try:
        with read_only(work.target.path) as connection:
            requeue = _requeue_of(work, connection)
            _check_gate(work, requeue)
            found = victims(connection, requeue.takings, work.now(), _older_than(work), limit)
    except ProfileError as error:
        cure = "mend the profile or its settings; `queuekeeper profiles check FILE DB` tries them"
        raise Refused(str(error), reason="profile", next_step=cure) from error
    if not found:
        raise NothingToDo("no lease has run out", reason="no_stale_leases", next_step="")
    shown = ", ".join(f"{one.key} of {one.queue}" for one in found[:SHOWN_VICTIMS])
    more = f" and {len(found) - SHOWN_VICTIMS} more" if len(found) > SHOWN_VICTIMS else ""
    return Plan(
        steps=(f"give {len(found)} tasks back to the queue: {shown}{more}",),
        figures={"stale": len(found), "limit": limit, "may_run_twice": requeue.may_run_twice},
        stall=work.target.limits.write_lock,
        warnings=("a worker that is alive but slower than its lease may run its task twice",) * requeue.may_run_twice,
    )


def run(work: Work, plan: Plan) -> Done:
    """Move the stale tasks in chunks. What was moved before a stop stays moved and is told."""
    so_far = [Moved()]
    try:
        with writable(work.target.path, LOCK_WAIT) as connection:
            for moved in _chunks(work, connection, int(plan.figures["limit"] or 0)):
                so_far.append(so_far[-1] + moved)
                work.progress("requeued tasks", so_far[-1].total, float(plan.figures["stale"] or 0))
    except ActionError as error:
        error.figures, error.totals = _figures(so_far[-1]), _totals(so_far[-1])
        raise
    except (apsw.Error, ProfileError) as error:
        raise Failed(
            f"{'SQLite: ' * isinstance(error, apsw.Error)}{error}, after {so_far[-1].total} tasks",
            reason=type(error).__name__,
            next_step="see `queuekeeper stats` for the database's state; what was moved stays moved",
            figures=_figures(so_far[-1]),
            totals=_totals(so_far[-1]),
        ) from error
    return Done(_message(so_far[-1]), _figures(so_far[-1]), _totals(so_far[-1]))


def _chunks(work: Work, connection: apsw.Connection, limit: int) -> Iterator[Moved]:
    """Move chunk after chunk until nothing is stale or `limit` is reached; rest after each for as long as it held."""
    requeue = _requeue_of(work, connection)
    rows, left = FIRST_CHUNK, limit
    before: tuple[Victim, ...] = ()
    while left > 0:
        work.stop.check()
        # Looked for without the lock: each row is judged again when it is taken.
        chosen = victims(connection, requeue.takings, work.now(), _older_than(work), min(rows, left))
        if chosen == before:  # empty, or the profile's steps leave a stale row stale
            return
        moved = _move_chunk(work, connection, chosen)
        yield moved
        before = chosen
        left -= moved.total
        rows = next_size(rows, moved.longest_hold, work.target.limits.write_lock, LARGEST_CHUNK)
        work.stop.wait(moved.longest_hold)


def _move_chunk(work: Work, connection: apsw.Connection, chosen: tuple[Victim, ...]) -> Moved:
    """One transaction for these tasks, as far as they still are stale."""
    with write_turn(connection, LOCK_WAIT) as turn:
        taken = take(connection, chosen, work.now(), _older_than(work))
    return Moved(taken["waiting"], taken["dead"], chunks=1, longest_hold=turn.held)


def _requeue_of(work: Work, connection: apsw.Connection) -> CompiledRequeue:
    profile = profile_for(connection, work.target)
    if profile is None:
        raise Refused(
            f"{work.target.path} is no queue that a profile knows",
            reason="no_profile",
            next_step="name one with `profile:` in the configuration",
        )
    if profile.requeue is None:
        raise Refused(
            f"the profile {profile.name} has nothing to requeue: the file does not tell which tasks were abandoned",
            reason="no_requeue",
            next_step="see docs/profiles.md",
        )
    return profile.requeue


def _check_gate(work: Work, requeue: CompiledRequeue) -> None:
    if requeue.gate == "workers_stopped" and not work.options.get("workers_stopped"):
        raise Refused(
            "this queue cannot tell an abandoned task from a running one",
            reason="workers_running",
            next_step="stop all workers, then give --workers-stopped",
        )
    if requeue.gate == "guarded" and work.automatic and not (work.options.get("guarded") and work.options.get("limit")):
        raise Refused(
            "a worker that is merely slow may run its task twice, so nobody may requeue here unasked",
            reason="guarded",
            next_step="if the grace is longer than the longest task, say so in the rule: options: {guarded: true, limit: 500}",
        )


def _limit(work: Work) -> int:
    return int(work.number("limit", 1_000_000))


def _older_than(work: Work) -> float | None:
    value = work.options.get("older_than")
    return None if value is None else float(value)


def _message(moved: Moved) -> str:
    dead = f", {moved.dead} had no attempts left and are dead" if moved.dead else ""
    return f"requeued {moved.waiting} tasks{dead}"


def _figures(moved: Moved) -> Mapping[str, Figure]:
    return {
        "requeued": moved.waiting,
        "dead": moved.dead,
        "chunks": moved.chunks,
        "longest_hold_seconds": round(moved.longest_hold, 4),
    }


def _totals(moved: Moved) -> Mapping[str, float]:
    return {"requeued_tasks": float(moved.waiting)}
