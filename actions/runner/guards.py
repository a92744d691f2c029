"""The guards: what forbids an action. Pure: inputs in, a refusal or nothing out. Each refusal names its cure.

A person is bound by the disk, ownership, owner-version and pause guards (and by the lock); windows and the fresh backup
bind automatic runs, which no person watches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from actions.model.errors import PAUSED, Refused
from actions.policy.windows import Window, is_window_open


@dataclass(frozen=True, slots=True)
class AutomaticInputs:
    """What binds only automatic runs. `window`: the one that is configured for the action; `needs_window`: it needs one.

    `backup_age`: seconds since the snapshot of the newest verified backup whose time can be believed, None without one;
    `has_backup`: there is a verified one at all. `fresh_backup`: the oldest that will do, None where the action destroys
    nothing. `now`: seconds since the epoch.
    """

    now: float
    needs_window: bool = False
    window: Window | None = None
    fresh_backup: float | None = None
    backup_age: float | None = None
    has_backup: bool = False


@dataclass(frozen=True, slots=True)
class NameInputs:
    """Why the database must not be touched by this name: a word, a sentence, the next step, and the process at another."""

    reason: str
    message: str
    next_step: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class GuardInputs:
    """What the guards look at. Sizes in bytes. `paused`: why (text) all actions are paused; None: they are not.

    `command`: the words of the action's command after `queuekeeper`. `user` and `owner` are None where files have no such
    owner; `gives_files_away`: what we create beside the database can get its owner. `names`: what is wrong with this name
    of the file, None where nothing is. `content_lost`: what of its content is gone, where the action heeds that.
    `reserved_bytes`: of each page, where the action would write pages.
    `database_free`: None where the action needs no space there, or checks it itself. `automatic` is None for a person.
    """

    command: str
    action: str
    database: str
    user: int | None
    owner: int | None
    state_free: int
    paused: str | None
    linked_sqlite_vulnerable: bool
    linked_sqlite: str
    database_free: int | None = None
    disk_reserve: int = 0
    content_lost: str = ""
    reserved_bytes: int = 0
    automatic: AutomaticInputs | None = None
    gives_files_away: bool = False
    names: NameInputs | None = None


STATE_RESERVE = 16 * 1024 * 1024


def first_refusal(inputs: GuardInputs) -> Refused | None:
    """The first reason against acting, or None."""
    return next(_all_refusals(inputs), None)


def _all_refusals(inputs: GuardInputs) -> Iterator[Refused]:
    """The refusals, the gravest first."""
    if inputs.linked_sqlite_vulnerable:
        yield Refused(
            f"this program's own SQLite {inputs.linked_sqlite} has the WAL-reset bug",
            reason="vulnerable_sqlite",
            next_step="install apsw 3.51.3 or newer",
        )
    if inputs.paused is not None:
        yield Refused(f"actions are paused ({inputs.paused})", reason=PAUSED, next_step="queuekeeper resume")
    yield from _ownership_refusals(inputs)
    if inputs.names is not None:
        figures = {} if inputs.names.pid is None else {"pid": inputs.names.pid}
        names = inputs.names
        yield Refused(names.message, reason=names.reason, next_step=names.next_step, figures=figures)
    if inputs.reserved_bytes:
        yield foreign_pages_refusal(inputs.database, inputs.reserved_bytes)
    if inputs.content_lost:
        yield _content_refusal(inputs)
    yield from _disk_refusals(inputs)
    if inputs.automatic is not None:
        yield from _window_refusals(inputs, inputs.automatic)
        yield from _backup_refusals(inputs, inputs.automatic)


def foreign_pages_refusal(database: str, reserved: int) -> Refused:
    """The refusal to write pages that an extension of the application's SQLite completes: a checksum, an encryption."""
    return Refused(
        f"each page of {database} ends with {reserved} bytes of an extension of the application's SQLite (a checksum, an "
        'encryption): pages that we write lack them, and the application would read "disk I/O error"',
        reason="foreign_pages",
        next_step="have the application do it (PRAGMA wal_checkpoint, VACUUM, its own clean-up); backups, checks and restores "
        "to another path work",
    )


def _content_refusal(inputs: GuardInputs) -> Refused:
    return Refused(
        f"the database lost most of its content: {inputs.content_lost}; until that is cleared up {inputs.action} could destroy "
        "what it can be restored from",
        reason="content_lost",
        next_step=f"queuekeeper restore {inputs.database} --in-place; or, if it is as it should be, queuekeeper backup "
        f"{inputs.database} --accept-loss",
    )


def _ownership_refusals(inputs: GuardInputs) -> Iterator[Refused]:
    if inputs.owner is None or inputs.user in (None, inputs.owner) or inputs.gives_files_away:
        return
    cure = f"run as user {inputs.owner} or as root"
    if inputs.user == 0:
        cure = f"run as user {inputs.owner}, or leave this root CAP_CHOWN in a user namespace that knows that user"
    yield Refused(
        f"the database belongs to user {inputs.owner}, this is user {inputs.user}{_without_right(inputs)}: files created "
        "beside it would lock the application out",
        reason="foreign_owner",
        next_step=cure,
    )


def _without_right(inputs: GuardInputs) -> str:
    return " without the right to give files away" if inputs.user == 0 else ""


def _disk_refusals(inputs: GuardInputs) -> Iterator[Refused]:
    if inputs.state_free < STATE_RESERVE:
        yield Refused(
            f"{inputs.state_free} bytes are free where the history lives, {STATE_RESERVE} are needed to remember the run",
            reason="state_full",
            next_step="free space there or choose another --state",
        )
    if inputs.database_free is not None and inputs.database_free < inputs.disk_reserve:
        yield Refused(
            f"{inputs.database_free} bytes are free beside the database and {inputs.disk_reserve} must stay free: "
            f"{inputs.disk_reserve - inputs.database_free} bytes are missing, since every change is written to the WAL "
            "first",
            reason="disk_full",
            next_step="free space there, or lower limits.disk_reserve",
        )


def _window_refusals(inputs: GuardInputs, automatic: AutomaticInputs) -> Iterator[Refused]:
    by_hand = f"run it by hand: queuekeeper {inputs.command} {inputs.database}"
    if automatic.window is None:
        if automatic.needs_window:
            yield Refused(
                f"{inputs.action} runs automatically only inside a window, and none is configured",
                reason="no_window",
                next_step=f'configure one: actions: {{windows: {{{inputs.action}: "02:00-04:00"}}}}; or {by_hand}',
            )
    elif not is_window_open(automatic.window, automatic.now):
        yield Refused(
            f"{inputs.action} runs automatically only from {automatic.window}",
            reason="window_closed",
            next_step=f"wait for it, or {by_hand}",
        )


def _backup_refusals(inputs: GuardInputs, automatic: AutomaticInputs) -> Iterator[Refused]:
    if automatic.fresh_backup is None:
        return
    cure = f"queuekeeper backup {inputs.database} (or schedule it), or raise actions.fresh_backup"
    if automatic.backup_age is None and automatic.has_backup:
        yield Refused(
            f"{inputs.action} needs a verified backup no older than {_hours_or_seconds(automatic.fresh_backup)}, and every "
            "one has a time in the future: a clock was wrong, so how old they are is not known",
            reason="no_fresh_backup",
            next_step=f"correct the clock, then take one: queuekeeper backup {inputs.database}",
        )
    elif automatic.backup_age is None:
        yield Refused(
            f"{inputs.action} cannot be undone without a verified backup of this database, and there is none",
            reason="no_fresh_backup",
            next_step=cure,
        )
    elif automatic.backup_age > automatic.fresh_backup:
        yield Refused(
            f"{inputs.action} needs a verified backup no older than {_hours_or_seconds(automatic.fresh_backup)}, the "
            f"newest is {_hours_or_seconds(automatic.backup_age)} old",
            reason="no_fresh_backup",
            next_step=cure,
        )


def _hours_or_seconds(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
