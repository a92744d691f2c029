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
from actions.policy.suspension import CLOCK_SET_BACK

# A firing that is noticed this late is still on time, in seconds.
ON_TIME_SECONDS = 60.0
# Missed firings are counted back this far, and at most so many: more is of no use, and each costs some microseconds.
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
        """Whether it applies to this database; a schedule that names none applies to all."""
        return not self.databases or database in self.databases


@dataclass(frozen=True, slots=True)
class DueFiring:
    """What is due at one moment. `firing`: the cron time to run now, None when there is none.

    `missed`: firings that will not be run; `done_until`: cron times up to then are handled once this is stored;
    `next_at`: when the next one is due, None when it never fires again.
    """

    firing: float | None
    missed: int
    done_until: float
    next_at: float | None


def jitter_delay(schedule: Schedule, database: str) -> float:
    """How long after the cron time this database is due, in seconds: always the same."""
    digest = hashlib.sha256(f"{schedule.name}\0{database}".encode("utf-8", "surrogateescape")).digest()
    return schedule.jitter * int.from_bytes(digest[:8], "big") / 2**64


def due_firing(schedule: Schedule, database: str, done_until: float, now: float) -> DueFiring:
    """What is due at `now` for one database (seconds since the epoch). `done_until` is that of the previous call.

    One that lies far ahead of the clock comes from another clock: counting starts again from now.
    """
    if done_until - now > CLOCK_SET_BACK:
        done_until = now
    due_until = now - jitter_delay(schedule, database)  # cron times up to here are due
    firings = _firings_until(schedule, max(done_until, due_until - MISSED_LOOKBACK), due_until)
    passed = sum(1 for _ in islice(firings, MAX_MISSED_COUNTED))
    made_up_after = max(done_until, due_until - max(ON_TIME_SECONDS, schedule.catch_up))
    *_, newest = (None, *_firings_until(schedule, made_up_after, due_until))
    done_until = max(done_until, due_until)
    upcoming = next(cron_firings(schedule, done_until), None)
    next_at = None if upcoming is None else upcoming + jitter_delay(schedule, database)
    return DueFiring(newest, passed - (newest is not None), done_until, next_at)


def _firings_until(schedule: Schedule, after: float, until: float) -> Iterator[float]:
    return takewhile(lambda at: at <= until, cron_firings(schedule, after))


def cron_firings(schedule: Schedule, after: float) -> Iterator[float]:
    """The cron times after a moment (seconds since the epoch), without the delay. Raises CronSimError on a bad cron."""
    start = datetime.fromtimestamp(after, schedule.timezone)
    for firing in CronSim(schedule.cron, start):
        yield firing.timestamp()


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
