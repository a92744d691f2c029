"""Checks the schedules of the file against known actions, calendar and time zones, and builds Schedule values."""

import time
from collections.abc import Collection, Iterator, Mapping
from datetime import tzinfo

from cronsim import CronSimError

from actions.model.options import ActionOption
from actions.policy.schedules import Schedule, cron_firings
from exporter.config.problems import ConfigProblem
from exporter.config.rule_parts import action_problems, database_problems, options_in_base_units
from exporter.config.schema import SchedulePart
from exporter.config.window_parts import load_zone, zone_problems
from exporter.config.yaml_positions import Loc


def schedule_problems(
    part: SchedulePart, loc: Loc, actions: Mapping[str, Mapping[str, ActionOption]], databases: Collection[str] | None
) -> Iterator[ConfigProblem]:
    """The errors of one schedule. `databases` are the configured names; None when a glob makes them unknown."""
    yield from action_problems(part, loc, actions)
    yield from database_problems(part, loc, databases)
    yield from _cron_problems(part, loc)
    yield from zone_problems(part.timezone, (*loc, "timezone"))


def build_schedule(part: SchedulePart, kinds: Mapping[str, ActionOption], otherwise: tzinfo) -> Schedule:
    """The Schedule of a part without errors. `kinds`: its action's options; `otherwise`: the time zone when it names none."""
    return Schedule(
        name=part.name,
        cron=part.cron,
        action=part.do,
        options=options_in_base_units(part.options, kinds),
        databases=tuple(part.databases),
        timezone=otherwise if part.timezone is None else load_zone(part.timezone),
        jitter=part.jitter,
        catch_up=part.catch_up,
        priority=part.priority,
    )


def _cron_problems(part: SchedulePart, loc: Loc) -> Iterator[ConfigProblem]:
    try:
        if next(cron_firings(Schedule(part.name, part.cron, part.do), time.time()), None) is None:
            yield ConfigProblem((*loc, "cron"), f'"{part.cron}" never comes; is there such a day?')
    except CronSimError as error:
        yield ConfigProblem((*loc, "cron"), f'"{part.cron}" is not a cron expression: {error}; e.g. "0 3 * * *"')
