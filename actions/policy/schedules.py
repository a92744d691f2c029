"""Schedules: what is to be done at which times. Pure: cron, a time zone and a clock in, due times out.

Cron as Debian's: five fields (six with seconds first), day of month and day of week are both meant when one of them
starts with a star; a time that a change of the clocks skips is made up right after, one that comes twice runs once.
Each database has its own delay within `jitter`, the same every time, so that a hundred backups do not begin at once.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile

from cronsim import CronSim

from actions.model.request import Option, Request
from actions.policy.cooldown import CLOCK_SET_BACK

# A firing that is noticed this late is still on time, in seconds.
ON_TIME_SECONDS = 60.0
# Missed firings are counted back this far, and at most so many: nobody needs more, and each costs some microseconds.
MISSED_LOOKBACK = 31 * 86400.0
MAX_MISSED_COUNTED = 50_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule of the configuration. `jitter` and `catch_up` in seconds.

    `catch_up`: a firing that was missed by no more than this is made up, once, the newest one alone; 0: never.
    """

    name: str
    cron: str
    action: str
    options: Mapping[str, Option] = field(default_factory=dict)
    databases: tuple[str, ...] = ()
    timezone: tzinfo = UTC
    jitter: float = 0.0
    catch_up: float = 0.0
    priority: int = 0

    def covers_database(self, database: str) -> bool:
        """Whether it is meant for this database; one that names none covers all."""
        return not self.databases or database in self.databases


@dataclass(frozen=True, slots=True)
class DueFiring:
    """What a look at the clock finds. `firing`: the cron time to run now, None when there is none.

    `missed`: firings that will not be run; `done_until`: cron times up to then are dealt with once this is stored;
    `next_at`: when to look again, None when it never fires again.
    """

    firing: float | None
    missed: int
    done_until: float
    next_at: float | None


def jitter_delay(schedule: Schedule, database: str) -> float:
    """How long after the cron time this database's turn is, in seconds: always the same."""
    digest = hashlib.sha256(f"{schedule.name}\0{database}".encode("utf-8", "surrogateescape")).digest()
    return schedule.jitter * int.from_bytes(digest[:8], "big") / 2**64


def due_firing(schedule: Schedule, database: str, done_until: float, now: float) -> DueFiring:
    """What is due at `now` for one database (seconds since the epoch). `done_until` is the last look's.

    One that lies far ahead of the clock comes from another clock: it starts again from now.
    """
    if done_until - now > CLOCK_SET_BACK:
        done_until = now
    turn = now - jitter_delay(schedule, database)  # cron times up to here have had their turn
    passed = sum(
        1 for _ in islice(_firings_until(schedule, max(done_until, turn - MISSED_LOOKBACK), turn), MAX_MISSED_COUNTED)
    )
    *_, newest = (
        None,
        *_firings_until(schedule, max(done_until, turn - max(ON_TIME_SECONDS, schedule.catch_up)), turn),
    )
    done_until = max(done_until, turn)
    upcoming = next(cron_firings(schedule, done_until), None)
    next_at = None if upcoming is None else upcoming + jitter_delay(schedule, database)
    return DueFiring(newest, passed - (newest is not None), done_until, next_at)


def _firings_until(schedule: Schedule, after: float, until: float) -> Iterator[float]:
    return takewhile(lambda at: at <= until, cron_firings(schedule, after))


def cron_firings(schedule: Schedule, after: float) -> Iterator[float]:
    """The cron times after a moment (seconds since the epoch), without the delay. Raises CronSimError on a bad cron."""
    start = datetime.fromtimestamp(after, schedule.timezone)
    for found in CronSim(schedule.cron, start):
        yield found.timestamp()


def schedule_request(schedule: Schedule, database: str) -> Request:
    """The request that a schedule makes."""
    return Request(
        action=schedule.action,
        database=database,
        trigger="schedule",
        options=schedule.options,
        rule=schedule.name,
        priority=schedule.priority,
    )
