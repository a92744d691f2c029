"""`queuekeeper simulate FILE...`: prints what the rules would have done with recorded data."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import click

from actions.policy.simulate import RecordedDelivery, RecordedReading, SimulatedEvent, SimulationPolicy
from actions.policy.simulate import simulate_policy as replay
from exporter.commands.common_options import config_file_option
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.config.load import known_metrics
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config
from exporter.simulation_input import UnreadableRecording, read_recordings
from exporter.text.units import format_time
from exporter.triggers.next_runs import is_long_action, scheduling_bounds


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@config_file_option
@click.option("--json", "as_json", is_flag=True, help="A JSON array with documented fields (docs/commands.md).")
def simulate(files: tuple[Path, ...], config_file: Path, as_json: bool) -> None:
    """Replay the recorded data in FILES and print which actions would have run when. Reads no database, runs no action.

    A FILE holds JSON: payloads of the webhook ({"at": SECONDS, "payload": ...} adds its time), outputs of
    `stats DB --json`, or answers of Prometheus to /api/v1/query_range.
    """
    config, now = read_config(config_file), time.time()
    try:
        records = [record for file in files for record in read_recordings(file, known_metrics(), now, config.identity)]
    except UnreadableRecording as error:
        raise UsageProblem(str(error)) from error
    story = list(replay(_simulation_plan(config, records), records))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(event) for event in story], indent=2))
        return
    for event in story:
        click.echo(happening_line(event))
    click.echo(_summary_line(story, records, config))


def happening_line(event: SimulatedEvent) -> str:
    """One simulated event as a line: `2026-03-01 03:00:00Z jobs checkpoint (wal-backlog): would run: ...`."""
    subject = " ".join(filter(None, (event.database, event.action)))
    rule = f" ({event.rule})" if event.rule else ""
    verb = {"runs": "would run", "waits": "would wait"}.get(event.kind, event.kind)
    return f"{format_time(event.at)} {subject}{rule}: {verb}: {event.words}"


def _simulation_plan(config: Config, records: Sequence[RecordedReading | RecordedDelivery]) -> SimulationPolicy:
    """What the simulation needs of the configuration. Acting counts as enabled; recorded databases need not exist here."""
    names = {target.name for target in resolve_targets(config)} | {
        record.database for record in records if isinstance(record, RecordedReading)
    }
    within = scheduling_bounds(config.acting, config.rules, len(names), {}, 0.0)
    windows = config.acting.windows
    return SimulationPolicy(
        config.rules, config.schedules, within, is_long_action, config.identity, frozenset(names), windows
    )


def _summary_line(
    story: Sequence[SimulatedEvent], records: Sequence[RecordedReading | RecordedDelivery], config: Config
) -> str:
    runs = sum(event.kind == "runs" for event in story)
    readings = sum(isinstance(record, RecordedReading) for record in records)
    off = "" if config.acting.enabled else "; acting is disabled in this configuration, so no action runs"
    return f"{runs} runs, from {readings} readings and {len(records) - readings} deliveries{off}"
