"""The second stage: checks what depends on several keys of the file, and builds the frozen Config."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path

from actions.model.options import ActionOption
from actions.policy.rules import Rule
from actions.policy.schedules import Schedule
from actions.policy.windows import Window
from actions.runner.catalogue import ACTION_SPECS
from collectors.metric import Metric
from collectors.target import BackupSettings, Limits, RetentionCounts
from exporter.config import rule_parts, schedule_parts, window_parts
from exporter.config.problems import ConfigProblem
from exporter.config.schema import ActionsPart, BackupPart, ConfigFile, DatabasePart, LimitsPart, RulePart, SchedulePart
from exporter.config.settings import ActingSettings, Config, DatabaseSpec
from exporter.config.tokens import read_digests, token_file_label
from exporter.config.window_parts import load_zone
from exporter.config.yaml_positions import Loc


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The names that rules may use: actions with their options, and declared metrics."""

    actions: Mapping[str, Mapping[str, ActionOption]]
    metrics: Mapping[str, Metric]


def build_config(
    file: ConfigFile, path: Path, known: KnownNames, problems: list[ConfigProblem], warnings: list[ConfigProblem]
) -> Config:
    """The Config of a file that the first stage accepted; adds to `problems` and `warnings`."""
    databases = tuple(_build_database_spec(part, path.parent) for part in file.databases)
    problems += _database_problems(databases)
    warnings += [
        *_unpruned_retentions(file),
        *window_parts.window_warnings(file),
        *_missing_backup_directories(file, databases),
    ]
    problems += (unfit := tuple(window_parts.window_problems(file)))
    names = _configured_names(databases)
    timezone = UTC if unfit else load_zone(file.timezone)
    return Config(
        source=path,
        databases=databases,
        identity=file.identity,
        interval=file.poll.interval,
        slow_interval=file.poll.slow_interval,
        rescan=file.poll.rescan,
        limits=_build_limits(file.limits),
        acting=_build_acting(file.actions, path.parent, {} if unfit else window_parts.build_windows(file), problems),
        rules=_build_rules(file, known, names, problems),
        schedules=_build_schedules(file, known, names, timezone, problems),
        timezone=timezone,
        state=_absolute_path(file.state, path.parent),
        warnings=(),
    )


def with_warnings(config: Config, warnings: tuple[str, ...]) -> Config:
    """The same Config with its warnings as sentences."""
    return dataclasses.replace(config, warnings=warnings)


def _absolute_path(text: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder / text))


def _build_database_spec(part: DatabasePart, folder: Path) -> DatabaseSpec:
    profile = part.profile
    if "/" in profile:
        profile = str(_absolute_path(profile, folder))
    return DatabaseSpec(
        path=str(_absolute_path(part.path, folder)),
        name=part.name,
        profile=profile,
        owner_sqlite=part.owner_sqlite,
        settings=dict(part.settings),
        backup=None if part.backup is None else _build_backup_place(part.backup, folder),
    )


def _build_backup_place(part: BackupPart, folder: Path) -> BackupSettings:
    keep = RetentionCounts() if part.keep is None else RetentionCounts(**part.keep.model_dump())
    return BackupSettings(_absolute_path(part.directory, folder), keep, part.compress)


def _build_limits(part: LimitsPart) -> Limits:
    given = part.model_dump(exclude_none=True, exclude={"wal_growth"})
    limits = dataclasses.replace(Limits(), **given)
    if part.wal_growth is None:
        return limits
    growth = part.wal_growth
    return dataclasses.replace(limits, wal_growth_bytes=growth.size, wal_growth_ratio=growth.ratio)


def _build_acting(
    part: ActionsPart, folder: Path, windows: Mapping[str, Window], problems: list[ConfigProblem]
) -> ActingSettings:
    files = tuple(_absolute_path(name, folder) for name in part.allow.token_files)
    digests: list[bytes] = []
    names: dict[bytes, str] = {}
    for i, file in enumerate(files if part.enabled else ()):
        try:
            digests += (own := read_digests(file))
            names |= dict.fromkeys(own, token_file_label(file, files))
        except ValueError as error:
            problems.append(ConfigProblem(("actions", "allow", "token_files", i), str(error)))
    return ActingSettings(
        enabled=part.enabled,
        token_files=files,
        token_digests=tuple(digests),
        token_names=names,
        users=frozenset(part.allow.users),
        client_sans=frozenset(part.allow.client_sans),
        short=part.concurrency.short,
        long=part.concurrency.long,
        quota_per_hour=part.quota_per_hour,
        fresh_backup=part.fresh_backup,
        windows=windows,
        checkpoint_vulnerable_owner=part.checkpoint_vulnerable_owner,
    )


def _configured_names(databases: tuple[DatabaseSpec, ...]) -> set[str] | None:
    """The configured names; None when a glob makes them unknown."""
    return None if any(d.is_glob for d in databases) else {d.name or Path(d.path).stem for d in databases}


def _build_rules(
    file: ConfigFile, known: KnownNames, named: set[str] | None, problems: list[ConfigProblem]
) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for i, part in enumerate(file.rules):
        loc: Loc = ("rules", i)
        part_problems = list(rule_parts.rule_problems(part, loc, known.actions, known.metrics, named))
        problems += part_problems
        if not part_problems:
            rules.append(rule_parts.build_rule(part, known.actions[part.do], file.actions.blast_radius))
    problems += _duplicate_name_problems("rules", [part.name for part in file.rules])
    return tuple(rules)


def _build_schedules(
    file: ConfigFile, known: KnownNames, named: set[str] | None, otherwise: tzinfo, problems: list[ConfigProblem]
) -> tuple[Schedule, ...]:
    schedules: list[Schedule] = []
    for i, part in enumerate(file.schedules):
        part_problems = list(schedule_parts.schedule_problems(part, ("schedules", i), known.actions, named))
        problems += part_problems
        if not part_problems:
            schedules.append(schedule_parts.build_schedule(part, known.actions[part.do], otherwise))
    problems += _duplicate_name_problems("schedules", [part.name for part in file.schedules])
    return tuple(schedules)


def _duplicate_name_problems(where: str, names: list[str]) -> Iterator[ConfigProblem]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield ConfigProblem((where, i, "name"), f'"{name}" is also the name of {where}[{names.index(name)}]')


def _database_problems(databases: tuple[DatabaseSpec, ...]) -> list[ConfigProblem]:
    problems: list[ConfigProblem] = []
    names: dict[str, int] = {}
    paths: dict[str, int] = {}
    for i, database in enumerate(databases):
        if database.is_glob and database.name is not None:
            cure = "a glob takes the names from the files; leave `name` out"
            problems.append(ConfigProblem(("databases", i, "name"), cure))
            continue
        if database.name is not None and database.name in names:
            problems.append(
                ConfigProblem(
                    ("databases", i, "name"), f'"{database.name}" is also the name of databases[{names[database.name]}]'
                )
            )
        if database.path in paths:
            problems.append(
                ConfigProblem(("databases", i, "path"), f"the same path as databases[{paths[database.path]}]")
            )
        if database.name is not None:
            names.setdefault(database.name, i)
        paths.setdefault(database.path, i)
    return problems


def _missing_backup_directories(file: ConfigFile, databases: tuple[DatabaseSpec, ...]) -> Iterator[ConfigProblem]:
    """Rules and schedules that need backups of a database without a backup directory: every run would be refused."""
    bare = [database.name or Path(database.path).stem for database in databases if database.backup is None]
    rules: list[tuple[Loc, RulePart | SchedulePart]] = [(("rules", i), part) for i, part in enumerate(file.rules)]
    for loc, part in [*rules, *((("schedules", i), part) for i, part in enumerate(file.schedules))]:
        without = [name for name in bare if not part.databases or name in part.databases]
        if _needs_backups(part.do) and without:
            cure = "give it `backup: {directory: ...}`, or name the others in `databases`"
            yield ConfigProblem((*loc, "do"), f"{without[0]} has no backup directory: {cure}")


def _needs_backups(action: str) -> bool:
    """Whether the action takes or reads backups, or runs automatically only after a fresh one."""
    return action in ACTION_SPECS and ACTION_SPECS[action].needs_backups


def _unpruned_retentions(file: ConfigFile) -> Iterator[ConfigProblem]:
    """Databases with a retention while no rule and no schedule prunes."""
    if "prune" in {*(rule.do for rule in file.rules), *(schedule.do for schedule in file.schedules)}:
        return
    for i, database in enumerate(file.databases):
        if database.backup is not None and database.backup.keep is not None:
            cure = (
                'add a schedule, like {name: prune, cron: "30 3 * * *", do: prune}, or run `queuekeeper backups prune`'
            )
            yield ConfigProblem(("databases", i, "backup", "keep"), f"no rule or schedule prunes: {cure}")
