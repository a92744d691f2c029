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
from actions.policy.scheduling import HOUR, blast_radius_reasons, quota_reasons
from actions.store.database import StoreUnavailable, history_file, state_store
from actions.store.past import load_action_history
from actions.store.pause import pause_reason
from actions.store.pending_runs import load_started_runs
from collectors.access.snapshot import Snapshot
from collectors.backup_catalog.store import backup_location
from collectors.owner import OwnerReading
from collectors.queue_profiles.detection import find_profile
from collectors.queue_profiles.schema import ProfileError, QueueProfile
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.commands.status import read_all_twice
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config
from exporter.status import rule_state as words
from exporter.status import window_state
from exporter.triggers.next_runs import is_long_action, scheduling_bounds

RuleHistories = Mapping[tuple[str, str], words.RuleHistory]  # by database and rule


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
    snapshots = read_all_twice(resolve_targets(config))
    why, memories = _read_rule_histories(config, snapshots)
    told = [_explain_database(config, snapshot, why, memories) for snapshot in snapshots]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told:
        _print_explanation(one)


def _explain_database(
    config: Config, snapshot: Snapshot, why: str | None, memories: RuleHistories
) -> dict[str, object]:
    target, profiles = snapshot.target, _detected_profiles(snapshot)
    now = time.time()
    first = profiles[0] if profiles else None
    rules = [
        words.explain_rule(
            rule, snapshot, config, memories.get((target.name, rule.name), words.RuleHistory()), first, now
        )
        for rule in config.rules
        if rule.covers_database(target.name)
    ]
    schedules = {
        one.name: words.explain_schedule(one, target.name, config, why, now)
        for one in config.schedules
        if one.covers_database(target.name)
    }
    return {
        "database": target.name,
        "path": str(target.path),
        "state": snapshot.state,
        "message": snapshot.message,
        "profile": ", ".join(profile.name for profile in profiles),
        "settings": [line for profile in profiles for line in words.describe_settings(profile, target.settings)],
        "owner_sqlite": target.owner_sqlite,
        "backup": backup_location(target),
        "windows": list(window_state.window_lines(config.acting, now)),
        "rules": [dataclasses.asdict(rule) for rule in rules],
        "schedules": schedules,
    }


def _detected_profiles(snapshot: Snapshot) -> list[QueueProfile]:
    """The profiles that the reading found, by their names; several queues may lie in one file."""
    owner = snapshot.readings.get("owner")
    names = owner.profile if isinstance(owner, OwnerReading) else ""
    found = []
    for name in filter(None, (name.strip() for name in names.replace("+", ",").split(","))):
        chosen = snapshot.target.profile if "/" in snapshot.target.profile else name
        with suppress(ProfileError):  # `profiles check` tells what is wrong with it; here it just has no settings
            found.append(find_profile(chosen))
    return found


def _read_rule_histories(config: Config, snapshots: list[Snapshot]) -> tuple[str | None, RuleHistories]:
    """(why actions are paused, what bears on each rule). No history is made where there is none."""
    if not history_file(config.state).exists():
        return None, {}
    pairs = [(snapshot.target.name, rule) for snapshot in snapshots for rule in config.rules]
    try:
        with state_store(config.state) as store:
            why = pause_reason(store)
            return why, {
                (name, rule.name): _read_rule_history(store, config, name, rule, why, len(snapshots))
                for name, rule in pairs
            }
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error


def _read_rule_history(
    store: apsw.Connection, config: Config, database: str, rule: Rule, why: str | None, watched: int
) -> words.RuleHistory:
    found, now = load_action_history(store, database, rule.action), time.time()
    return words.RuleHistory(found, why, list(_exhausted_limits(store, config, database, rule, watched, now)))


def _exhausted_limits(
    store: apsw.Connection, config: Config, database: str, rule: Rule, watched: int, now: float
) -> Iterator[str]:
    within = scheduling_bounds(config.acting, config.rules, watched, {}, now)
    known = load_started_runs(store, now - max(HOUR, rule.radius.within), is_long_action)
    yield from quota_reasons(database, known, within, now)
    yield from blast_radius_reasons(rule.name, database, rule.radius, known, within, now)


def _print_explanation(one: Mapping[str, object]) -> None:
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
