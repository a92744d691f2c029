"""`queuekeeper simulate FILE...`: what the rules would have done with what was recorded."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import click

from actions.policy.simulate import Happening, Plan, Reading, Told
from actions.policy.simulate import simulate as replay
from exporter.commands.common_options import config_file_option
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.config.known import known_metrics
from exporter.config.resolve import targets
from exporter.config.settings import Config
from exporter.simulation_input import NoRecording, recorded
from exporter.text.units import moment
from exporter.triggers.next_runs import bounds, is_long


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
        moments = [one for file in files for one in recorded(file, known_metrics(), now, config.identity)]
    except NoRecording as error:
        raise UsageProblem(str(error)) from error
    story = list(replay(_plan(config, moments), moments))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in story], indent=2))
        return
    for one in story:
        click.echo(line(one))
    click.echo(_sum(story, moments, config))


def line(one: Happening) -> str:
    """`2026-03-01 03:00:00Z jobs checkpoint (rule wal-backlog): runs: ...`."""
    subject = " ".join(filter(None, (one.database, one.action)))
    rule = f" ({one.rule})" if one.rule else ""
    verb = {"runs": "would run", "waits": "would wait"}.get(one.kind, one.kind)
    return f"{moment(one.at)} {subject}{rule}: {verb}: {one.words}"


def _plan(config: Config, moments: Sequence[Reading | Told]) -> Plan:
    """Acting counts as enabled: that is what is asked. A recorded database need not be here."""
    names = {target.name for target in targets(config)} | {one.database for one in moments if isinstance(one, Reading)}
    within = bounds(config.acting, config.rules, len(names), {}, 0.0)
    windows = config.acting.windows
    return Plan(config.rules, config.schedules, within, is_long, config.identity, frozenset(names), windows)


def _sum(story: Sequence[Happening], moments: Sequence[Reading | Told], config: Config) -> str:
    runs = sum(one.kind == "runs" for one in story)
    readings = sum(isinstance(one, Reading) for one in moments)
    off = "" if config.acting.enabled else "; acting is disabled in this configuration, so nothing does"
    return f"{runs} runs, from {readings} readings and {len(moments) - readings} deliveries{off}"
