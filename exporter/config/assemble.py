"""The second stage: what needs more than one place of the file, and the frozen Config that comes out."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cronsim import CronSim, CronSimError

from actions.policy.rules import Rule
from actions.policy.windows import Window
from actions.run.options import OptionKind
from collectors.metric import Metric
from collectors.target import BackupPlace, Keep, Limits
from exporter.config import rule_parts, window_parts
from exporter.config.places import Loc
from exporter.config.problems import Problem, unknown
from exporter.config.schema import ActionsPart, BackupPart, DatabasePart, File, LimitsPart
from exporter.config.settings import Acting, Config, DatabaseSpec
from exporter.config.tokens import read_digests

# Words of the whole contract: schedules and windows are checked against it although this version does not run them.
ACTION_WORDS = (
    "checkpoint", "backup", "verify", "drill", "restore", "prune", "vacuum", "analyze", "optimize", "integrity",
    "requeue", "purge",
)  # fmt: skip
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
NOT_YET = "not yet run by this version"


@dataclass(frozen=True, slots=True)
class Known:
    """What rules may name: each action's options, and the declared metrics."""

    actions: Mapping[str, Mapping[str, OptionKind]]
    metrics: Mapping[str, Metric]


def config(file: File, path: Path, known: Known, problems: list[Problem], warnings: list[Problem]) -> Config:
    """The Config of a file that the first stage accepted; adds to `problems` and `warnings`."""
    databases = tuple(_database(part, path.parent) for part in file.databases)
    problems += _database_problems(databases)
    warnings += [*_not_yet(file), *window_parts.warnings(file)]
    problems += [*_schedule_problems(file), *(unfit := tuple(window_parts.problems(file)))]
    return Config(
        source=path,
        databases=databases,
        identity=file.identity,
        interval=file.poll.interval,
        slow_interval=file.poll.slow_interval,
        rescan=file.poll.rescan,
        limits=_limits(file.limits),
        acting=_acting(file.actions, path.parent, {} if unfit else window_parts.windows(file), problems),
        rules=_rules(file, known, databases, problems, warnings),
        state=_absolute(file.state, path.parent),
        warnings=(),
    )


def with_warnings(made: Config, warnings: tuple[str, ...]) -> Config:
    """The same Config with its warnings as sentences."""
    return dataclasses.replace(made, warnings=warnings)


def _absolute(text: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder / text))


def _database(part: DatabasePart, folder: Path) -> DatabaseSpec:
    profile = part.profile
    if "/" in profile:
        profile = str(_absolute(profile, folder))
    return DatabaseSpec(
        path=str(_absolute(part.path, folder)),
        name=part.name,
        profile=profile,
        owner_sqlite=part.owner_sqlite,
        settings=dict(part.settings),
        backup=None if part.backup is None else _backup(part.backup, folder),
    )


def _backup(part: BackupPart, folder: Path) -> BackupPlace:
    keep = Keep() if part.keep is None else Keep(**part.keep.model_dump())
    return BackupPlace(_absolute(part.directory, folder), keep, part.compress)


def _limits(part: LimitsPart) -> Limits:
    given = part.model_dump(exclude_none=True, exclude={"wal_growth"})
    limits = dataclasses.replace(Limits(), **given)
    if part.wal_growth is None:
        return limits
    growth = part.wal_growth
    return dataclasses.replace(limits, wal_growth_bytes=growth.size, wal_growth_ratio=growth.ratio)


def _acting(part: ActionsPart, folder: Path, windows: Mapping[str, Window], problems: list[Problem]) -> Acting:
    files = tuple(_absolute(name, folder) for name in part.allow.token_files)
    digests: list[bytes] = []
    for i, file in enumerate(files if part.enabled else ()):
        try:
            digests += read_digests(file)
        except ValueError as error:
            problems.append(Problem(("actions", "allow", "token_files", i), str(error)))
    return Acting(
        enabled=part.enabled,
        token_files=files,
        token_digests=tuple(digests),
        users=frozenset(part.allow.users),
        client_sans=frozenset(part.allow.client_sans),
        short=part.concurrency.short,
        long=part.concurrency.long,
        quota_per_hour=part.quota_per_hour,
        fresh_backup=part.fresh_backup,
        windows=windows,
        checkpoint_vulnerable_owner=part.checkpoint_vulnerable_owner,
    )


def _rules(
    file: File, known: Known, databases: tuple[DatabaseSpec, ...], problems: list[Problem], warnings: list[Problem]
) -> tuple[Rule, ...]:
    named = None if any(d.is_glob for d in databases) else {d.name or Path(d.path).stem for d in databases}
    rules: list[Rule] = []
    first: dict[str, int] = {}
    for i, part in enumerate(file.rules):
        loc: Loc = ("rules", i)
        found = list(rule_parts.problems(part, loc, known.actions, known.metrics, named))
        if part.name in first:
            found.append(Problem((*loc, "name"), f'"{part.name}" is also the name of rules[{first[part.name]}]'))
        first.setdefault(part.name, i)
        problems += found
        if not found and (rule := rule_parts.rule(part)) is not None:
            rules.append(rule)
        elif not found:
            warnings.append(Problem((*loc, "when"), f"`absent` is {NOT_YET}; the rule {part.name} does nothing"))
    return tuple(rules)


def _database_problems(databases: tuple[DatabaseSpec, ...]) -> list[Problem]:
    found: list[Problem] = []
    names: dict[str, int] = {}
    paths: dict[str, int] = {}
    for i, database in enumerate(databases):
        if database.is_glob and database.name is not None:
            cure = "a glob takes the names from the files; leave `name` out"
            found.append(Problem(("databases", i, "name"), cure))
            continue
        if database.name is not None and database.name in names:
            found.append(
                Problem(
                    ("databases", i, "name"), f'"{database.name}" is also the name of databases[{names[database.name]}]'
                )
            )
        if database.path in paths:
            found.append(Problem(("databases", i, "path"), f"the same path as databases[{paths[database.path]}]"))
        if database.name is not None:
            names.setdefault(database.name, i)
        paths.setdefault(database.path, i)
    return found


def _schedule_problems(file: File) -> list[Problem]:
    found: list[Problem] = []
    for i, schedule in enumerate(file.schedules):
        loc: Loc = ("schedules", i)
        if schedule.do not in ACTION_WORDS:
            found.append(Problem((*loc, "do"), unknown("an action", schedule.do, ACTION_WORDS)))
        try:
            CronSim(schedule.cron, _EPOCH)
        except CronSimError as error:
            found.append(
                Problem((*loc, "cron"), f'"{schedule.cron}" is not a cron expression: {error}; e.g. "0 3 * * *"')
            )
    strange = (name for name in file.actions.windows if name not in ACTION_WORDS)
    found += [Problem(("actions", "windows", name), unknown("an action", name, ACTION_WORDS)) for name in strange]
    return found


def _not_yet(file: File) -> list[Problem]:
    """What the file asks for and this version does not do: said, never passed over in silence."""
    return [*_not_yet_of_databases(file), *_not_yet_of_actions(file.actions), *_not_yet_of_times(file)]


def _not_yet_of_databases(file: File) -> Iterator[Problem]:
    for i, database in enumerate(file.databases):
        loc: Loc = ("databases", i, "backup")
        if database.backup is not None and database.backup.keep is not None:
            yield Problem((*loc, "keep"), f"pruning by itself is {NOT_YET}; `queuekeeper backups prune` keeps to it")


def _not_yet_of_actions(part: ActionsPart) -> Iterator[Problem]:
    loc: Loc = ("actions",)
    if "quota_per_hour" in part.model_fields_set:
        yield Problem((*loc, "quota_per_hour"), "the quota is not yet kept by this version; cooldowns are")


def _not_yet_of_times(file: File) -> Iterator[Problem]:
    for i, schedule in enumerate(file.schedules):
        yield Problem(("schedules", i), f"schedules are {NOT_YET}; {schedule.name} does nothing")
