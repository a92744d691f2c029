"""Stores runs: pending, claimed, running, ended. Each change is one transaction, guarded by the state it expects.

    pending --claim--> claimed --start (by the child, under the database's action lock)--> running --end--> ended

A claim carries a random token; only the child that was given it can start or end the run. Without it a child that
was spawned before its agent died could start a run that a new agent had claimed again.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import apsw

from actions.model.outcome import Effect, Outcome
from actions.model.plan import Figure, Plan
from actions.model.process_identity import own_identity
from actions.model.request import Request
from actions.policy.suspension import RunResult
from actions.store import integrity
from actions.store.chain import REQUESTED, append_run_entry, chained_change
from actions.store.database import store_transaction
from actions.store.pause import clear_cancel_request
from actions.store.run_rows import Run as Run
from actions.store.run_rows import dump_plan, dump_request, select_runs
from actions.store.suspensions import record_run_result
from actions.store.totals import add_amounts, add_duration, add_effect, add_run, add_trigger


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to start one run once."""

    run_id: int
    token: str


@dataclass(frozen=True, slots=True)
class RunEnding:
    """How a run ended. `amounts` are added to the lifetime totals of the database."""

    outcome: Outcome
    message: str
    reason: str = ""
    next_step: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    amounts: Mapping[str, float] = field(default_factory=dict)
    before: float | None = None
    after: float | None = None
    effect: Effect | None = None


def enqueue_run(history: apsw.Connection, request: Request, path: str, now: float) -> tuple[int, bool]:
    """Record a pending run; returns its id and whether it is new. The same action pending on the database is that run.

    A person's request replaces an automatic one that is pending: a quota or a suspension must not delay it any longer.
    """
    with store_transaction(history):
        pending_id = history.execute(
            "SELECT id FROM run WHERE database = ? AND action = ? AND state = 'pending'",
            (request.database, request.action),
        ).get
        if pending_id is None:
            add_trigger(history, request.action, request.trigger)
            return _insert_run(history, request, path, now, "pending"), True
        transferred = not request.is_automatic and _transfer_to_person(history, int(pending_id), request, now)
        return int(pending_id), transferred


def enqueue_and_claim(history: apsw.Connection, request: Request, path: str, now: float) -> Claim:
    """Record a run, claimed by the caller, which starts it at once."""
    with store_transaction(history):
        run_id = _insert_run(history, request, path, now, "claimed")
        add_trigger(history, request.action, request.trigger)
        with chained_change(history, run_id, "claimed", now):
            return _assign_token(history, run_id, now)


def claim_run(history: apsw.Connection, run_id: int, now: float) -> Claim | None:
    """Claim a pending run; None when another process did, or actions are paused: nothing is claimed during a pause."""
    with store_transaction(history), chained_change(history, run_id, "claimed", now):
        history.execute(
            "UPDATE run SET state = 'claimed' WHERE id = ? AND state = 'pending'"
            " AND NOT EXISTS (SELECT 1 FROM setting WHERE name = 'paused')",
            (run_id,),
        )
        return _assign_token(history, run_id, now) if history.changes() else None


def start_run(history: apsw.Connection, claim: Claim, now: float) -> bool:
    """Mark the run as running: the child's first write under the lock. False: its claim is lost, and it must exit."""
    with store_transaction(history), chained_change(history, claim.run_id, "started", now):
        history.execute(
            "UPDATE run SET state = 'running', child = ?, started_at = ? WHERE id = ? AND state = 'claimed' AND token = ?",
            (own_identity(), now, claim.run_id, claim.token),
        )
        return history.changes() == 1


def record_plan(history: apsw.Connection, claim: Claim, plan: Plan, before: float | None) -> None:
    """Record the plan before it is carried out, with the value of the condition."""
    with store_transaction(history), chained_change(history, claim.run_id, "planned", None):
        history.execute(
            "UPDATE run SET plan = ?, before = ? WHERE id = ? AND token = ?",
            (dump_plan(plan), before, claim.run_id, claim.token),
        )


def end_run(
    history: apsw.Connection,
    claim: Claim,
    ending: RunEnding,
    now: float,
    states: tuple[str, ...] = ("claimed", "running"),
) -> bool:
    """End a run that is in one of `states` with its totals and its effect, in one transaction. False: its claim was lost."""
    with store_transaction(history):
        with chained_change(history, claim.run_id, "ended", now):
            history.execute(
                "UPDATE run SET state = 'ended', ended_at = ?, outcome = ?, reason = ?, message = ?, next_step = ?,"
                " figures = ?, before = ?, after = ?, effect = ? WHERE id = ? AND token = ? AND state IN (?, ?)",
                (now, *_ending_values(ending), claim.run_id, claim.token, states[0], states[-1]),
            )
            changed = history.changes() == 1
        if not changed:
            return False
        clear_cancel_request(history, claim.run_id)
        ended = load_run(history, claim.run_id)
        _add_to_totals(history, ended, ending, now)
        record_run_result(history, ended.database, ended.action, _run_result(ended, ending), now)
    return True


def release_claim(history: apsw.Connection, run_id: int, token: str) -> bool:
    """Make a claimed run pending again, whose child did not start. False: it started, or the same action is pending."""
    with store_transaction(history), chained_change(history, run_id, "released", None):
        history.execute(
            "UPDATE OR IGNORE run SET state = 'pending', token = '', claimer = '', claimed_at = NULL"
            " WHERE id = ? AND token = ? AND state = 'claimed'",
            (run_id, token),
        )
        return history.changes() == 1


def load_run(history: apsw.Connection, run_id: int) -> Run:
    """The run with this id. Raises KeyError when there is none."""
    for run in select_runs(history, "WHERE id = ?", (run_id,)):
        return run
    raise KeyError(f"there is no run {run_id}")


def pending_runs(history: apsw.Connection) -> list[Run]:
    """The pending runs, by priority, then the oldest first."""
    return select_runs(history, "WHERE state = 'pending' ORDER BY priority DESC, id")


def cancel_pending_run(history: apsw.Connection, run_id: int, ending: RunEnding, now: float) -> bool:
    """End a run that has not started; False when it has, or has ended."""
    run = load_run(history, run_id)
    return end_run(history, Claim(run_id, run.token), ending, now, ("pending", "claimed"))


def unfinished_runs(history: apsw.Connection) -> list[Run]:
    """The runs that are claimed or running."""
    return select_runs(history, "INDEXED BY run_unfinished WHERE state <> 'ended' AND state <> 'pending' ORDER BY id")


def newest_runs(history: apsw.Connection, database: str | None, limit: int) -> list[Run]:
    """The newest runs, newest first."""
    where, values = ("WHERE database = ?", (database,)) if database else ("", ())
    return select_runs(history, f"{where} ORDER BY id DESC LIMIT ?", (*values, limit))


def count_runs(history: apsw.Connection, database: str) -> int:
    """How many runs of this database history has."""
    return int(history.execute("SELECT count(*) FROM run WHERE database = ?", (database,)).get)


def find_runs(
    history: apsw.Connection,
    limit: int,
    *,
    before: int | None = None,
    database: str = "",
    action: str = "",
    outcome: str = "",
) -> list[Run]:
    """The newest runs older than run `before`, newest first; an empty word selects nothing. For paging through all."""
    return select_runs(
        history,
        "WHERE (?1 IS NULL OR id < ?1) AND (?2 = '' OR database = ?2) AND (?3 = '' OR action = ?3)"
        " AND (?4 = '' OR coalesce(outcome, state) = ?4) ORDER BY id DESC LIMIT ?5",
        (before, database, action, outcome, limit),
    )


def unfinished_run_id(history: apsw.Connection, database: str, action: str) -> int | None:
    """The id of the pending, claimed or running run of this action on this database; None without one."""
    run_id = history.execute(
        "SELECT id FROM run WHERE database = ? AND action = ? AND ended_at IS NULL ORDER BY id LIMIT 1",
        (database, action),
    ).get
    return None if run_id is None else int(run_id)


def _insert_run(history: apsw.Connection, request: Request, path: str, now: float, state: str) -> int:
    history.execute(
        "INSERT INTO run (database, path, action, request, trigger, rule, episode, priority, state, requested_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(request.database, path, request.action, dump_request(request)),
            *(request.trigger, request.rule, request.episode, request.priority, state, now),
        ),
    )
    run_id = history.last_insert_rowid()
    append_run_entry(history, REQUESTED, run_id, now, request.asked_by)
    return run_id


def _transfer_to_person(history: apsw.Connection, run_id: int, request: Request, now: float) -> bool:
    """Make a pending automatic run this person's; returns whether it was automatic."""
    with chained_change(history, run_id, "transferred", now, request.asked_by):
        history.execute(
            "UPDATE run SET request = ?, trigger = ?, rule = '', priority = ? WHERE id = ? AND trigger <> 'person'",
            (dump_request(request), request.trigger, request.priority, run_id),
        )
        transferred = history.changes() == 1
    if transferred:
        add_trigger(history, request.action, request.trigger)
    return transferred


def _run_result(ended: Run, ending: RunEnding) -> RunResult:
    return RunResult(
        outcome=ending.outcome,
        effect=ending.effect,
        rule=ended.rule,
        condition=ended.request.condition,
        before=ending.before,
        after=ending.after,
        reason=ending.reason,
        message=ending.message,
        next_step=ending.next_step,
    )


def _ending_values(ending: RunEnding) -> tuple[str | float | None, ...]:
    words = (ending.outcome, ending.reason, ending.message, ending.next_step, json.dumps(dict(ending.figures)))
    return (*words, ending.before, ending.after, ending.effect)


def _assign_token(history: apsw.Connection, run_id: int, now: float) -> Claim:
    token = secrets.token_hex(16)
    history.execute(
        "UPDATE run SET token = ?, claimer = ?, claimed_at = ? WHERE id = ?", (token, own_identity(), now, run_id)
    )
    return Claim(run_id, token)


def _add_to_totals(history: apsw.Connection, ended: Run, ending: RunEnding, now: float) -> None:
    add_run(history, ended.database, ended.action, ending.outcome, now)
    add_amounts(history, ended.database, ending.amounts)
    if ended.seconds is not None:
        add_duration(history, ended.action, ended.seconds)
    if ending.effect is not None and ended.rule:
        add_effect(history, ended.database, ended.rule, ending.effect)
    if "whole_file" in ending.figures and ending.outcome in (Outcome.DONE, Outcome.UNVERIFIED):
        ok = ending.outcome is Outcome.DONE
        checked = integrity.integrity_result_from(ending.figures, ok=ok, message=ending.message)
        integrity.record_integrity_result(history, ended.database, checked, now)
