"""`queuekeeper profiles list|show|detect|check`: which queues are known, which one a file is, and whether a profile works."""

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

from collectors.access.connection import read_only
from collectors.access.errors import EXPECTED, reason
from collectors.access.file_facts import gather
from collectors.access.preflight import decide
from collectors.access.timeouts import time_limit
from collectors.queue_profiles import detection
from collectors.queue_profiles.authorizer import changing
from collectors.queue_profiles.compile import CompiledProfile, compiled
from collectors.queue_profiles.row_selection import CompiledPurge, CompiledRequeue, Taking
from collectors.queue_profiles.run_queries import counted
from collectors.queue_profiles.schema import Profile, ProfileError, Setting
from collectors.queue_profiles.settings import required, settings_of
from collectors.queue_profiles.table_match import declared_tables, places_of
from collectors.queue_profiles.tables import Tables, read_tables
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from exporter.commands.common_options import database_options
from exporter.commands.database_argument import UsageProblem, resolve

NEAREST = 3


@dataclass(frozen=True, slots=True)
class Nearness:
    """How far a database is from a profile: what it lacks, in sentences. `shares`: tables of it that are there."""

    profile: str
    shares: int
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of `detect`; `profiles` fit, `nearest` did not. `tables` are the names of all."""

    path: str
    profiles: tuple[str, ...]
    nearest: tuple[Nearness, ...]
    tables: tuple[str, ...]


@click.group()
def profiles() -> None:
    """Which queue systems are known, and which one a database is."""


@profiles.command(name="list")
def list_profiles() -> None:
    """Every profile that comes with queuekeeper."""
    for profile in detection.shipped():
        click.echo(f"{profile.name:20} {_summary(profile)}")


@profiles.command()
@click.argument("name")
def show(name: str) -> None:
    """What profile NAME (or the file of this path) reads, what may be set, and what it lets be done."""
    for line in _described(_named(name)):
        click.echo(line)


@profiles.command(name="detect")
@database_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object with documented fields (docs/commands.md).")
def detect_profile(db: str, config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Which queue systems DB holds; or which profile came nearest, and what is missing. Exit 1 when none fits."""
    target = resolve(db, config_file, state)
    with _opened(target) as database, _one_line():
        found = _found(read_tables(database), target)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        click.echo("\n".join(_told(found)))
    if not found.profiles:
        raise click.exceptions.Exit(1)


@profiles.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("db", required=False)
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A setting of the profile; may be repeated.")
def check(file: Path, db: str | None, given: tuple[str, ...]) -> None:
    """Is the profile in FILE right? With DB: does it fit, what does it count there, would its actions run?"""
    path = str(file) if "/" in str(file) else f"./{file}"
    profile = _named(path)
    settings = dict(_setting(profile, text) for text in given)
    if db is None:
        with _one_line():
            _compiled_alone(profile, settings)
        click.echo(f"{file}: ok; profile {profile.name}, {_summary(profile)}")
        return
    target = replace(resolve(db, None, None), profile=path, settings=settings)
    with _opened(target) as database, _one_line():
        made = detection.profile_for(database, target)
        for line in _tried(database, made) if made else ():
            click.echo(line)
    click.echo(f"{file}: ok; it fits {target.path}")


def _summary(profile: Profile) -> str:
    actions = profile.actions
    may = [
        f"{word} {one.when}"
        for word, one in (("requeue", actions.requeue), ("purge", actions.purge))
        if one is not None
    ]
    needs = "; needs settings: " + ", ".join(required(profile)) if required(profile) else ""
    return f"tables {', '.join(profile.detect)}; {', '.join(may) or 'gauges only'}{needs}"


def _described(profile: Profile) -> Iterator[str]:
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
        yield f"  setting {name}: {_default(setting)}; {setting.help}"
    for word, one in (("requeue", profile.actions.requeue), ("purge", profile.actions.purge)):
        yield f"  {word}: {one.when if one else 'not possible'}"


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "must be set"
    value = f"{setting.default:g}" if isinstance(setting.default, float) else f'"{setting.default}"'
    return f"{value} by default"


def _found(tables: Tables, target: Target) -> Found:
    matches = detection.matches(tables, target)
    unfit = () if matches else (profile for profile in detection.shipped() if not required(profile))
    near = [_nearness(profile, tables, target) for profile in unfit]
    nearest = sorted((one for one in near if one.shares), key=lambda one: (len(one.lacking), -one.shares))
    return Found(
        path=str(target.path),
        profiles=tuple(match.profile.name for match in matches),
        nearest=tuple(nearest[:NEAREST]),
        tables=tuple(sorted(table.name for table in tables.values())),
    )


def _nearness(profile: Profile, tables: Tables, target: Target) -> Nearness:
    lacking = detection.lacking(profile, tables, replace(target, settings={}))
    declared = declared_tables(profile, settings_of(profile, {}))
    return Nearness(profile.name, sum(bool(fnmatch.filter(tables, name)) for name in declared), lacking)


def _told(found: Found) -> Iterator[str]:
    if found.profiles:
        yield f"{found.path}: {', '.join(found.profiles)}"
        return
    yield f"{found.path}: no profile fits; only the file is measured (sizes, WAL, free pages, backups)"
    for one in found.nearest:
        yield f"  nearest: {one.profile}, but {'; '.join(one.lacking)}"
    yield f"  its tables: {', '.join(found.tables) or 'none'}"
    yield "  for a table of your own, use `profile: generic` with settings, or write a profile (docs/profiles.md)"


def _tried(database: apsw.Connection, made: CompiledProfile) -> Iterator[str]:
    """Run what only reads, compile what would write: an EXPLAIN of it is checked like the statement and changes nothing."""
    now = time.time()
    for rows in made.rows:
        result = counted(database, rows.count(now))
        queues = ", ".join(f"{one.queue or '(no name)'} {one.rows}" for one in result.queues[:10])
        yield f"  {rows.state} ({rows.spot.place.table}): {queues or 'none'}"
    for stale in made.stale_rows:
        number = sum(one.rows for one in counted(database, stale.count(now)).queues)
        yield f"  stale leases ({stale.rows.spot.place.table}): {number}"
    for word, action in (("requeue", made.requeue), ("purge", made.purge)):
        if action is not None:
            yield f"  {word} ({action.gate}): {_statements(database, action, now)} statements are accepted"


def _statements(database: apsw.Connection, action: CompiledRequeue | CompiledPurge, now: float) -> int:
    return sum(_accepted(database, taking, now) for taking in action.takings)


def _accepted(database: apsw.Connection, taking: Taking, now: float) -> int:
    number = 0
    for step in taking.steps(now, 0.0):
        with changing(database, step.fence):
            for statement in step.statements:
                database.execute(
                    f"EXPLAIN {statement}", {**step.values, "key": None, "seen": None, "holder": None}
                ).fetchall()
                number += 1
    return number


def _compiled_alone(profile: Profile, given: dict[str, float | str]) -> CompiledProfile:
    """Compile it for the tables that it describes; a setting that must be given stands for itself."""
    names = {name: name for name in required(profile) if profile.settings[name].kind != "number"}
    settings = settings_of(profile, {**names, **given})
    return compiled(profile, settings, places_of(profile, settings, declared_tables(profile, settings)))


def _setting(profile: Profile, text: str) -> tuple[str, float | str]:
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


def _named(choice: str) -> Profile:
    try:
        return detection.named(choice)
    except ProfileError as error:
        raise UsageProblem(str(error)) from error


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except EXPECTED as error:
        raise UsageProblem(reason(error)[1]) from error


@contextmanager
def _opened(target: Target) -> Iterator[apsw.Connection]:
    """A read-only connection where one may be opened at all (docs/safety.md)."""
    with _one_line(), RawReader() as raw:
        facts = gather(target, raw)
        try:
            verdict = decide(facts)
            if not verdict.may_open:
                raise UsageProblem(verdict.message)
            limit = target.limits.read_wal if facts.header and facts.header.wal else target.limits.read_rollback
            with read_only(target.path) as database, time_limit(database, limit):
                yield database
        finally:
            if facts.held == "held":
                raw.release(facts.path)
