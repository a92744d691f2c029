"""`queuekeeper config explain`: what the configuration means for each database, and which rule would act now."""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import apsw
import click

from actions.policy.rules import Rule
from actions.policy.scheduling import HOUR, quota, reach
from actions.store.database import StoreUnavailable, history, history_file
from actions.store.past import past
from actions.store.pause import paused
from actions.store.pending_runs import begun
from collectors.access.snapshot import Snapshot
from collectors.owner import Owner
from collectors.queue_profiles.detection import named
from collectors.queue_profiles.schema import Profile, ProfileError
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.commands.status import read_all
from exporter.config.resolve import targets
from exporter.config.settings import Config
from exporter.status import rule_state as words
from exporter.status import window_state
from exporter.triggers.next_runs import bounds, is_long

Memories = Mapping[tuple[str, str], words.Memory]  # by database and rule


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--config.file",
    "config_file",
    envvar="QUEUEKEEPER_CONFIG",
    type=click.Path(path_type=Path),
    help="Instead of FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON array with documented fields (docs/commands.md).")
def explain(file: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Say what FILE means for each database now: profile, settings, and which rule would act on what, and why not."""
    source = file or config_file
    if source is None:
        raise UsageProblem("no configuration named; give FILE, --config.file FILE or QUEUEKEEPER_CONFIG")
    config = read_config(source)
    snapshots = read_all(targets(config))
    why, memories = _remembered(config, snapshots)
    told = [_told(config, snapshot, why, memories) for snapshot in snapshots]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told:
        _print(one)


def _told(config: Config, snapshot: Snapshot, why: str | None, memories: Memories) -> dict[str, object]:
    target, profiles = snapshot.target, _profiles(snapshot)
    now = time.time()
    first = profiles[0] if profiles else None
    rules = [
        words.explain(rule, snapshot, config, memories.get((target.name, rule.name), words.Memory()), first, now)
        for rule in config.rules
        if rule.covers(target.name)
    ]
    schedules = {
        one.name: words.explain_schedule(one, target.name, config, why, now)
        for one in config.schedules
        if one.covers(target.name)
    }
    return {
        "database": target.name,
        "path": str(target.path),
        "state": snapshot.state,
        "message": snapshot.message,
        "profile": ", ".join(profile.name for profile in profiles),
        "settings": [line for profile in profiles for line in words.settings(profile, target.settings)],
        "owner_sqlite": target.owner_sqlite,
        "backup": None if target.backup is None else str(target.backup.folder(target.name)),
        "windows": list(window_state.lines(config.acting, now)),
        "rules": [dataclasses.asdict(rule) for rule in rules],
        "schedules": schedules,
    }


def _profiles(snapshot: Snapshot) -> list[Profile]:
    """The profiles that the reading found, by their names; several queues may lie in one file."""
    owner = snapshot.readings.get("owner")
    names = owner.profile if isinstance(owner, Owner) else ""
    found = []
    for name in filter(None, (name.strip() for name in names.replace("+", ",").split(","))):
        chosen = snapshot.target.profile if "/" in snapshot.target.profile else name
        with suppress(ProfileError):  # `profiles check` tells what is wrong with it; here it just has no settings
            found.append(named(chosen))
    return found


def _remembered(config: Config, snapshots: list[Snapshot]) -> tuple[str | None, Memories]:
    """(why actions are paused, what bears on each rule). No history is made where there is none."""
    if not history_file(config.state).exists():
        return None, {}
    pairs = [(snapshot.target.name, rule) for snapshot in snapshots for rule in config.rules]
    try:
        with history(config.state) as store:
            why = paused(store)
            return why, {
                (name, rule.name): _memory(store, config, name, rule, why, len(snapshots)) for name, rule in pairs
            }
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error


def _memory(
    store: apsw.Connection, config: Config, database: str, rule: Rule, why: str | None, watched: int
) -> words.Memory:
    found, now = past(store, database, rule.action), time.time()
    return words.Memory(found, why, list(_limits(store, config, database, rule, watched, now)))


def _limits(
    store: apsw.Connection, config: Config, database: str, rule: Rule, watched: int, now: float
) -> Iterator[str]:
    within = bounds(config.acting, config.rules, watched, {}, now)
    known = begun(store, now - max(HOUR, rule.radius.within), is_long)
    yield from quota(database, known, within, now)
    yield from reach(rule.name, database, rule.radius, known, within, now)


def _print(one: Mapping[str, object]) -> None:
    unread = "not known while it is not read" if one["state"] != "readable" else "none fits: only the file is measured"
    profile = one["profile"] or unread
    click.echo(f"{one['database']}: {one['path']} ({one['state']})")
    click.echo(f"  profile: {profile}")
    settings, rules, schedules, windows = one["settings"], one["rules"], one["schedules"], one["windows"]
    assert isinstance(settings, list)  # noqa: S101 - made by _told
    assert isinstance(windows, list)  # noqa: S101 - made by _told
    assert isinstance(rules, list)  # noqa: S101 - made by _told
    assert isinstance(schedules, dict)  # noqa: S101 - made by _told
    for line in settings:
        click.echo(f"    {line}")
    click.echo(f"  owner_sqlite: {one['owner_sqlite'] or 'not given: only TRUNCATE checkpoints are made'}")
    click.echo(f"  backups: {one['backup'] or 'no place configured'}")
    for line in windows:
        click.echo(f"  window of {line}")
    for rule in rules:
        value = "absent" if rule["value"] is None else f"{rule['value']:.12g}"
        acts = "would act" if rule["acts"] else "does not act"
        click.echo(
            f"  rule {rule['rule']}: {rule['metric']} is {value}, wrong {rule['bound']}: {acts}: {rule['reason']}"
        )
    for name, when in schedules.items():
        click.echo(f"  schedule {name}: {when}")
    if not rules:
        click.echo("  no rule covers it")
