"""`queuekeeper profiles list|show|detect|check`: the queue profiles, which of them fit a file, and whether one works."""

import dataclasses
import fnmatch
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import click

from collectors.access.at_rest import needs_reading_at_rest, open_live_or_at_rest
from collectors.access.errors import EXPECTED_ERRORS, describe_failure
from collectors.access.file_facts import gather_facts
from collectors.access.preflight import decide_preflight
from collectors.access.timeouts import time_limit
from collectors.queue_profiles import detection
from collectors.queue_profiles.authorizer import allow_changes
from collectors.queue_profiles.compile import CompiledProfile, compile_profile
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.row_selection import CompiledPurge, CompiledRequeue, RowSelection
from collectors.queue_profiles.run_queries import read_count
from collectors.queue_profiles.schema import QueueProfile, SettingSpec
from collectors.queue_profiles.settings import required_settings, resolve_settings
from collectors.queue_profiles.table_match import DatabaseTables, declared_tables, match_tables, read_tables
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from exporter.commands.common_options import database_options, json_option
from exporter.commands.database_argument import UsageProblem, resolve_target

MAX_NEAR_PROFILES = 3


@dataclass(frozen=True, slots=True)
class NearProfile:
    """A profile that almost fits a database. `lacking`: what is missing, in sentences; `shares`: how many tables exist."""

    profile: str
    shares: int
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfileDetection:
    """The result of `detect`: `profiles` fit, `nearest` do not; `tables`: the names of all tables of the database."""

    path: str
    profiles: tuple[str, ...]
    nearest: tuple[NearProfile, ...]
    tables: tuple[str, ...]


@click.group()
def profiles() -> None:
    """List the known queue systems, and detect which of them a database belongs to."""


@profiles.command(name="list")
def list_profiles() -> None:
    """List every profile that comes with queuekeeper."""
    for profile in detection.shipped_profiles():
        click.echo(f"{profile.name:20} {_summarize_profile(profile)}")


@profiles.command()
@click.argument("name")
def show(name: str) -> None:
    """Print what profile NAME (or the profile file at this path) reads, its settings, and its actions."""
    for line in _describe_profile(_load_profile(name)):
        click.echo(line)


@profiles.command(name="detect")
@database_options
@json_option
def detect_profile(db: str, config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Detect which queue systems DB holds; or the nearest profiles and what they miss. Exit 1 when none fits."""
    target = resolve_target(db, config_file, state)
    with _open_read_only(target) as database, _errors_as_usage_problem():
        detected = _detect_profiles(read_tables(database), target)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(detected), indent=2))
    else:
        click.echo("\n".join(_detection_lines(detected)))
    if not detected.profiles:
        raise click.exceptions.Exit(1)


@profiles.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("db", required=False)
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A setting of the profile; may be repeated.")
def check(file: Path, db: str | None, given: tuple[str, ...]) -> None:
    """Check the profile in FILE. With DB: also whether it fits, what it counts there, and whether its actions compile."""
    path = str(file) if "/" in str(file) else f"./{file}"
    profile = _load_profile(path)
    settings = dict(_parse_setting(profile, text) for text in given)
    if db is None:
        with _errors_as_usage_problem():
            _compile_without_database(profile, settings)
        click.echo(f"{file}: ok; profile {profile.name}, {_summarize_profile(profile)}")
        return
    target = replace(resolve_target(db, None, None), profile=path, settings=settings)
    with _open_read_only(target) as database, _errors_as_usage_problem():
        made = detection.detect_profile(database, target)
        for line in _try_profile(database, made) if made else ():
            click.echo(line)
    click.echo(f"{file}: ok; it fits {target.path}")


def _summarize_profile(profile: QueueProfile) -> str:
    actions = profile.actions
    may = [
        f"{word} {action.when}"
        for word, action in (("requeue", actions.requeue), ("purge", actions.purge))
        if action is not None
    ]
    needs = "; needs settings: " + ", ".join(required_settings(profile)) if required_settings(profile) else ""
    return f"tables {', '.join(profile.detect)}; {', '.join(may) or 'gauges only'}{needs}"


def _describe_profile(profile: QueueProfile) -> Iterator[str]:
    yield f"profile {profile.name}, tried against a {profile.verified.how} ({profile.verified.version})"
    for title, tables in (("tables", profile.detect), ("tables that may be missing", profile.also)):
        for table, columns in tables.items():
            yield f"  {title}: {table} ({', '.join(columns)})"
    for rows in profile.rows:
        slow = "; counted on the slow timer" if rows.slow else ""
        where = "all rows" if rows.where == "1" else f"where {rows.where}"
        yield f"  state {rows.state}: {rows.table}, {where}{slow}"
        if rows.stale:
            yield f"    stale ({profile.lease}): {rows.stale}"
    for name, setting in profile.settings.items():
        yield f"  setting {name}: {_default_in_words(setting)}; {setting.help}"
    for word, action in (("requeue", profile.actions.requeue), ("purge", profile.actions.purge)):
        yield f"  {word}: {action.when if action else 'not possible'}"


def _default_in_words(setting: SettingSpec) -> str:
    if setting.default is None:
        return "must be set"
    value = f"{setting.default:g}" if isinstance(setting.default, float) else f'"{setting.default}"'
    return f"{value} by default"


def _detect_profiles(tables: DatabaseTables, target: Target) -> ProfileDetection:
    matches = detection.matching_profiles(tables, target)
    unfit = () if matches else (profile for profile in detection.shipped_profiles() if not required_settings(profile))
    near = [_near_profile(profile, tables, target) for profile in unfit]
    nearest = sorted(
        (profile for profile in near if profile.shares), key=lambda profile: (len(profile.lacking), -profile.shares)
    )
    return ProfileDetection(
        path=str(target.path),
        profiles=tuple(match.profile.name for match in matches),
        nearest=tuple(nearest[:MAX_NEAR_PROFILES]),
        tables=tuple(sorted(table.name for table in tables.values())),
    )


def _near_profile(profile: QueueProfile, tables: DatabaseTables, target: Target) -> NearProfile:
    lacking = detection.missing_parts(profile, tables, replace(target, settings={}))
    declared = declared_tables(profile, resolve_settings(profile, {}))
    return NearProfile(profile.name, sum(bool(fnmatch.filter(tables, name)) for name in declared), lacking)


def _detection_lines(detected: ProfileDetection) -> Iterator[str]:
    if detected.profiles:
        yield f"{detected.path}: {', '.join(detected.profiles)}"
        return
    yield f"{detected.path}: no profile fits; only the file is measured (sizes, WAL, free pages, backups)"
    for near in detected.nearest:
        yield f"  nearest: {near.profile}, but {'; '.join(near.lacking)}"
    yield f"  its tables: {', '.join(detected.tables) or 'none'}"
    yield "  for a table of your own, use `profile: generic` with settings, or write a profile (docs/profiles.md)"


def _try_profile(database: apsw.Connection, made: CompiledProfile) -> Iterator[str]:
    """Run the counts, compile the writes: SQLite checks an EXPLAIN like the statement itself, and it changes nothing."""
    now = time.time()
    for rows in made.rows:
        result = read_count(database, rows.count_statement(now))
        queues = ", ".join(f"{queue.queue or '(no name)'} {queue.rows}" for queue in result.queues[:10])
        yield f"  {rows.state} ({rows.table_name}): {queues or 'none'}"
    for stale in made.stale_rows:
        number = sum(queue.rows for queue in read_count(database, stale.count_statement(now)).queues)
        yield f"  stale leases ({stale.row_set.table_name}): {number}"
    for word, action in (("requeue", made.requeue), ("purge", made.purge)):
        if action is not None:
            yield f"  {word} ({action.gate}): {_count_action_statements(database, action, now)} statements are accepted"


def _count_action_statements(database: apsw.Connection, action: CompiledRequeue | CompiledPurge, now: float) -> int:
    return sum(_count_accepted_statements(database, taking, now) for taking in action.selections)


def _count_accepted_statements(database: apsw.Connection, taking: RowSelection, now: float) -> int:
    number = 0
    for step in taking.bind_row_steps(now, 0.0):
        with allow_changes(database, step.access):
            for statement in step.statements:
                database.execute(
                    f"EXPLAIN {statement}", {**step.values, "key": None, "seen": None, "holder": None}
                ).fetchall()
                number += 1
    return number


def _compile_without_database(profile: QueueProfile, given: dict[str, float | str]) -> CompiledProfile:
    """Compile the profile for the tables that it declares; a required setting without a value gets its own name."""
    names = {name: name for name in required_settings(profile) if profile.settings[name].kind != "number"}
    settings = resolve_settings(profile, {**names, **given})
    return compile_profile(profile, settings, match_tables(profile, settings, declared_tables(profile, settings)))


def _parse_setting(profile: QueueProfile, text: str) -> tuple[str, float | str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageProblem(f"--set {text}: write NAME=VALUE")
    known = profile.settings.get(name)
    if known is None or known.kind != "number":
        return name, value
    try:
        return name, float(value)
    except ValueError:
        raise UsageProblem(f"--set {text}: {name} is a number") from None


def _load_profile(choice: str) -> QueueProfile:
    try:
        return detection.find_profile(choice)
    except ProfileError as error:
        raise UsageProblem(str(error)) from error


@contextmanager
def _errors_as_usage_problem() -> Iterator[None]:
    try:
        yield
    except EXPECTED_ERRORS as error:
        raise UsageProblem(describe_failure(error)[1]) from error


@contextmanager
def _open_read_only(target: Target) -> Iterator[apsw.Connection]:
    """Open a read-only connection, when docs/safety.md allows one. Raises UsageProblem."""
    with _errors_as_usage_problem(), RawReader() as raw:
        facts = gather_facts(target, raw)
        try:
            verdict = decide_preflight(facts)
            if not verdict.may_open and not (verdict.state == "owner_down" and needs_reading_at_rest(target, raw)):
                raise UsageProblem(verdict.message)
            limit = target.limits.read_wal if facts.header and facts.header.wal else target.limits.read_rollback
            with open_live_or_at_rest(target, raw) as database, time_limit(database, limit):
                yield database
        finally:
            if facts.wal_hold == "held":
                raw.release_wal(facts.path)
