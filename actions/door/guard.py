"""What forbids any action, whoever asks. Pure: facts in, a refusal or nothing out. Each names its cure."""

from dataclasses import dataclass

from actions.run.errors import Refused


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards look at. Sizes in bytes. `paused`: since when (text) automatic and personal actions are stopped."""

    user: int
    owner: int
    state_free: int
    paused: str | None
    linked_sqlite_vulnerable: bool
    linked_sqlite: str


STATE_RESERVE = 16 * 1024 * 1024


def refusal(facts: Facts) -> Refused | None:
    """The first reason against acting at all, or None."""
    if facts.linked_sqlite_vulnerable:
        return Refused(
            f"this program's own SQLite {facts.linked_sqlite} has the WAL-reset bug",
            reason="vulnerable_sqlite",
            next_step="install apsw 3.51.3 or newer",
        )
    if facts.paused is not None:
        return Refused(f"actions are paused ({facts.paused})", reason="paused", next_step="queuekeeper resume")
    if facts.user not in (0, facts.owner):
        return Refused(
            f"the database belongs to user {facts.owner}, this is user {facts.user}: files created beside it would lock the "
            "application out",
            reason="foreign_owner",
            next_step=f"run as user {facts.owner} or as root",
        )
    if facts.state_free < STATE_RESERVE:
        return Refused(
            f"{facts.state_free} bytes are free where the history lives, {STATE_RESERVE} are needed to remember the run",
            reason="state_full",
            next_step="free space there or choose another --state",
        )
    return None
