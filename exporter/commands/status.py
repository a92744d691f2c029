"""`queuekeeper status`: prints the health of every configured database, in a line each."""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from collectors.access.snapshot import Snapshot
from collectors.content_loss.memory import ContentMemory
from collectors.poll import poll_database, remembered_snapshot
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from exporter.commands.common_options import config_file_option
from exporter.commands.database_argument import UsageProblem, read_config
from exporter.commands.stats import SECONDS_BETWEEN_READINGS
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config
from exporter.polling.content_memory import remembered_contents
from exporter.status.findings import Finding, find_database_problems

MAX_PARALLEL_READS = 8
_NORMAL_STATES = ("readable", "")


@click.command()
@config_file_option
@click.option("--check", is_flag=True, help="Exit with 1 when anything is wrong with any database.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array with documented fields (docs/commands.md).")
def status(config_file: Path, check: bool, as_json: bool) -> None:
    """Read every configured database twice, half a second apart; print what is wrong with it and what to do about it."""
    config = read_config(config_file)
    databases = resolve_targets(config)
    if not databases:
        raise UsageProblem(f"{config_file}: no database exists now; check `path` of `databases`")
    judged = [
        (snapshot, find_database_problems(snapshot, config.rules, time.time()))
        for snapshot in read_all_twice(databases, remembered_contents(config.state))
    ]
    if as_json:
        click.echo(json.dumps([_status_fields(snapshot, wrong) for snapshot, wrong in judged], indent=2))
    else:
        for snapshot, wrong in judged:
            for text in status_lines(snapshot, wrong):
                click.echo(text)
        click.echo(_summary_line(judged, config))
    if check and any(wrong for _, wrong in judged):
        raise click.exceptions.Exit(1)


def read_all_twice(
    databases: Sequence[Target], remembered: Mapping[str, ContentMemory] | None = None
) -> list[Snapshot]:
    """The second of two readings of each database, so that change shows; MAX_PARALLEL_READS at a time.

    `remembered`: what each database held before, where the history knows.
    """
    before = {target.name: _remembered_or_none(target, remembered or {}) for target in databases}
    with RawReader() as raw, ThreadPoolExecutor(MAX_PARALLEL_READS) as pool:
        first = list(pool.map(lambda target: poll_database(target, before[target.name], time.time(), raw), databases))
        time.sleep(max(0.0, min(snapshot.taken_at for snapshot in first) + SECONDS_BETWEEN_READINGS - time.time()))
        pairs = zip(databases, first, strict=True)
        return list(pool.map(lambda pair: _read_again(pair[0], pair[1], raw), pairs))


def _remembered_or_none(target: Target, remembered: Mapping[str, ContentMemory]) -> Snapshot | None:
    memory = remembered.get(target.name)
    return None if memory is None else remembered_snapshot(target, memory)


def status_lines(snapshot: Snapshot, wrong: Sequence[Finding]) -> Iterator[str]:
    """`jobs: ok`, or one line for each thing that is wrong."""
    name = snapshot.target.name
    if not wrong:
        remark = (
            f" ({snapshot.message or snapshot.state})"
            if snapshot.state not in _NORMAL_STATES or snapshot.message
            else ""
        )
        yield f"{name}: ok{remark}"
    for finding in wrong:
        yield f"{name}: {finding.what}; do: {finding.cure}"


def _read_again(target: Target, first: Snapshot, raw: RawReader) -> Snapshot:
    """Read at least SECONDS_BETWEEN_READINGS after the first reading of this database: a WAL state needs the distance."""
    time.sleep(max(0.0, first.taken_at + SECONDS_BETWEEN_READINGS - time.time()))
    return poll_database(target, first, time.time(), raw)


def _summary_line(judged: Sequence[tuple[Snapshot, Sequence[Finding]]], config: Config) -> str:
    bad = sum(bool(wrong) for _, wrong in judged)
    acting = "acting is enabled" if config.acting.enabled else "acting is disabled: observe only"
    words = "all are well" if not bad else f"something is wrong with {bad}"
    return f"{len(judged)} databases, {words}; {acting}"


def _status_fields(snapshot: Snapshot, wrong: Sequence[Finding]) -> Mapping[str, object]:
    return {
        "database": snapshot.target.name,
        "path": str(snapshot.target.path),
        "ok": not wrong,
        "state": snapshot.state,
        "message": snapshot.message,
        "findings": [dataclasses.asdict(finding) for finding in wrong],
    }
