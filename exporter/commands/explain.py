"""`queuekeeper config explain`: prints what the configuration means for each database, and which rule would act now."""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw
import click

from actions.policy.rules import Rule
from actions.policy.scheduling import HOUR, blast_radius_reasons, quota_reasons
from actions.store.database import StoreUnavailable, history_file, state_store
from actions.store.pause import pause_reason
from actions.store.pending_runs import load_started_runs
from actions.store.recent_runs import load_action_history
from collectors.access.snapshot import Snapshot
from collectors.backup_catalog.store import backup_location
from collectors.owner import OwnerReading
from collectors.queue_profiles.detection import find_profile
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.schema import QueueProfile
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.commands.status import read_all_twice
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config
from exporter.status.rule_state import (
    RuleHistory,
    RuleState,
    describe_settings,
    explain_rule,
    explain_schedule,
    window_lines,
)
from exporter.triggers.next_runs import is_long_action, scheduling_bounds

RuleHistories = Mapping[tuple[str, str], RuleHistory]  # by database and rule


@dataclass(frozen=True, slots=True)
class DatabaseExplanation:
    """What the configuration means for one database now. `schedules`: by name, when each runs next."""

    database: str
    path: str
    state: str
    message: str
    profile: str
    settings: tuple[str, ...]
    owner_sqlite: str | None
    backup: str | None
    windows: tuple[str, ...]
    rules: tuple[RuleState, ...]
    schedules: Mapping[str, str]


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
    """Print what FILE means for each database now: profile, settings, which rules would act, and why others would not."""
    source = file or config_file
    if source is None:
        raise UsageProblem("no configuration named; give FILE, --config.file FILE or QUEUEKEEPER_CONFIG")
    config = read_config(source)
    snapshots = read_all_twice(resolve_targets(config))
    why, histories = _read_rule_histories(config, snapshots)
    explanations = [_explain_database(config, snapshot, why, histories) for snapshot in snapshots]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(explanation) for explanation in explanations], indent=2))
        return
    for explanation in explanations:
        _print_explanation(explanation)


def _explain_database(
    config: Config, snapshot: Snapshot, why: str | None, histories: RuleHistories
) -> DatabaseExplanation:
    target, profiles, now = snapshot.target, _detected_profiles(snapshot), time.time()
    return DatabaseExplanation(
        database=target.name,
        path=str(target.path),
        state=snapshot.state,
        message=snapshot.message,
        profile=", ".join(profile.name for profile in profiles),
        settings=tuple(line for profile in profiles for line in describe_settings(profile, target.settings)),
        owner_sqlite=target.owner_sqlite,
        backup=backup_location(target),
        windows=tuple(window_lines(config.acting, now)),
        rules=tuple(_explain_rules(config, snapshot, histories, profiles[0] if profiles else None, now)),
        schedules={
            schedule.name: explain_schedule(schedule, target.name, config, why, now)
            for schedule in config.schedules
            if schedule.covers_database(target.name)
        },
    )


def _explain_rules(
    config: Config, snapshot: Snapshot, histories: RuleHistories, profile: QueueProfile | None, now: float
) -> Iterator[RuleState]:
    name = snapshot.target.name
    for rule in config.rules:
        if rule.covers_database(name):
            history = histories.get((name, rule.name), RuleHistory())
            yield explain_rule(rule, snapshot, config, history, profile, now)


def _detected_profiles(snapshot: Snapshot) -> list[QueueProfile]:
    """The profiles that the reading names; one file may hold several queues."""
    owner = snapshot.readings.get("owner")
    names = owner.profile if isinstance(owner, OwnerReading) else ""
    profiles = []
    for name in filter(None, (name.strip() for name in names.replace("+", ",").split(","))):
        chosen = snapshot.target.profile if "/" in snapshot.target.profile else name
        with suppress(ProfileError):  # `profiles check` says what is wrong with it; here it only has no settings
            profiles.append(find_profile(chosen))
    return profiles


def _read_rule_histories(config: Config, snapshots: list[Snapshot]) -> tuple[str | None, RuleHistories]:
    """(why actions are paused, the history of each rule on each database). Creates no history where none exists."""
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
) -> RuleHistory:
    now = time.time()
    past = load_action_history(store, database, rule.action, now)
    return RuleHistory(past, why, list(_exhausted_limits(store, config, database, rule, watched, now)))


def _exhausted_limits(
    store: apsw.Connection, config: Config, database: str, rule: Rule, watched: int, now: float
) -> Iterator[str]:
    within = scheduling_bounds(config.acting, config.rules, watched, {}, now)
    known = load_started_runs(store, now - max(HOUR, rule.radius.within), is_long_action)
    yield from quota_reasons(database, known, within, now)
    yield from blast_radius_reasons(rule.name, database, rule.radius, known, within, now)


def _print_explanation(explanation: DatabaseExplanation) -> None:
    readable = explanation.state == "readable"
    unknown = "none fits: only the file is measured" if readable else "not known while it cannot be read"
    click.echo(f"{explanation.database}: {explanation.path} ({explanation.state})")
    click.echo(f"  profile: {explanation.profile or unknown}")
    for line in explanation.settings:
        click.echo(f"    {line}")
    click.echo(f"  owner_sqlite: {explanation.owner_sqlite or 'not given: only TRUNCATE checkpoints are made'}")
    click.echo(f"  backups: {explanation.backup or 'no directory configured'}")
    for line in explanation.windows:
        click.echo(f"  window of {line}")
    for rule in explanation.rules:
        click.echo(f"  {_rule_line(rule)}")
    for name, when in explanation.schedules.items():
        click.echo(f"  schedule {name}: {when}")
    if not explanation.rules:
        click.echo("  no rule covers it")


def _rule_line(rule: RuleState) -> str:
    value = "absent" if rule.value is None else f"{rule.value:.12g}"
    acts = "would act" if rule.acts else "does not act"
    return f"rule {rule.rule}: {rule.metric} is {value}, wrong {rule.bound}: {acts}: {rule.reason}"
