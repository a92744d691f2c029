"""`queuekeeper simulate FILE...`: what the rules would have done with what was recorded."""

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
from exporter.config.known import known_metrics
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
    """Replay what was recorded in FILES and say what would have run when. Nothing is read, nothing is done.

    A FILE holds JSON: payloads of the webhook ({"at": SECONDS, "payload": ...} says when one came), outputs of
    `stats DB --json`, or what Prometheus answers to /api/v1/query_range.
    """
    config, now = read_config(config_file), time.time()
    try:
        moments = [one for file in files for one in read_recordings(file, known_metrics(), now, config.identity)]
    except UnreadableRecording as error:
        raise UsageProblem(str(error)) from error
    story = list(replay(_simulation_plan(config, moments), moments))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in story], indent=2))
        return
    for one in story:
        click.echo(happening_line(one))
    click.echo(_summary_line(story, moments, config))


def happening_line(one: SimulatedEvent) -> str:
    """`2026-03-01 03:00:00Z jobs checkpoint (rule wal-backlog): runs: ...`."""
    subject = " ".join(filter(None, (one.database, one.action)))
    rule = f" ({one.rule})" if one.rule else ""
    verb = {"runs": "would run", "waits": "would wait"}.get(one.kind, one.kind)
    return f"{format_time(one.at)} {subject}{rule}: {verb}: {one.words}"


def _simulation_plan(config: Config, moments: Sequence[RecordedReading | RecordedDelivery]) -> SimulationPolicy:
    """Acting counts as enabled: that is what is asked. A recorded database need not be here."""
    names = {target.name for target in resolve_targets(config)} | {
        one.database for one in moments if isinstance(one, RecordedReading)
    }
    within = scheduling_bounds(config.acting, config.rules, len(names), {}, 0.0)
    windows = config.acting.windows
    return SimulationPolicy(
        config.rules, config.schedules, within, is_long_action, config.identity, frozenset(names), windows
    )


def _summary_line(
    story: Sequence[SimulatedEvent], moments: Sequence[RecordedReading | RecordedDelivery], config: Config
) -> str:
    runs = sum(one.kind == "runs" for one in story)
    readings = sum(isinstance(one, RecordedReading) for one in moments)
    off = "" if config.acting.enabled else "; acting is disabled in this configuration, so nothing does"
    return f"{runs} runs, from {readings} readings and {len(moments) - readings} deliveries{off}"
