"""`queuekeeper stats DB`: prints all readings of one database."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from collectors.access.snapshot import Snapshot
from collectors.metric import Sample
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from exporter.commands.common_options import database_options, json_option
from exporter.commands.database_argument import resolve_target
from exporter.commands.terminal import escape_control_characters, unwrap_terminal
from exporter.text.units import format_duration, format_size, format_time

# Growth, and which process blocks a checkpoint, show only between two readings (docs/safety.md).
SECONDS_BETWEEN_READINGS = 0.5


@click.command()
@database_options
@json_option
def stats(db: str, config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Read everything that can be read of DB, and change nothing."""
    snapshot = read_twice(resolve_target(db, config_file, state))
    if as_json:
        click.echo(json.dumps(snapshot_fields(snapshot, time.time()), indent=2))
    else:
        print_snapshot(snapshot, time.time())
    if not snapshot.up:
        if not as_json:
            click.echo(f"failed: {snapshot.message}", err=True)
        raise click.exceptions.Exit(1)


def read_twice(target: Target) -> Snapshot:
    """The second of two readings, SECONDS_BETWEEN_READINGS apart, compared with the first."""
    with RawReader() as raw:
        first = poll_database(target, None, time.time(), raw)
        time.sleep(SECONDS_BETWEEN_READINGS)
        return poll_database(target, first, time.time(), raw)


def snapshot_fields(snapshot: Snapshot, now: float) -> Mapping[str, object]:
    """The snapshot for `--json`: numbers in bytes and seconds, times in seconds since the epoch."""
    return {
        "database": snapshot.target.name,
        "path": str(snapshot.target.path),
        "taken_at": snapshot.taken_at,
        "up": snapshot.up,
        "state": snapshot.state,
        "message": snapshot.message,
        "samples": [_sample_fields(sample, now) for sample in snapshot.samples],
        "page_layout_as_of": _page_layout_time(snapshot),
        "collectors": {name: result._asdict() for name, result in snapshot.collectors.items()},
    }


def print_snapshot(snapshot: Snapshot, now: float) -> None:
    """Print the snapshot as a table for a person."""
    # Imported here: it is a fifth of the start of the agent, which shares the command line and does not use it.
    from rich.console import Console
    from rich.table import Table

    console = Console(file=unwrap_terminal(sys.stdout), soft_wrap=True, markup=False, emoji=False, highlight=False)
    console.print(escape_control_characters(f"{snapshot.target.name}: {snapshot.state}"))
    if snapshot.message and snapshot.up:
        console.print(escape_control_characters(f"  {snapshot.message}"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _sample_rows(snapshot, now):
        table.add_row(escape_control_characters(name), escape_control_characters(value))
    console.print(table)
    for name, result in snapshot.collectors.items():
        if not result.success:
            console.print(escape_control_characters(f"  {name}: not read ({result.reason}) {result.message}"))


def _page_layout_time(snapshot: Snapshot) -> float | None:
    """The time that unused bytes and page order describe: of a backup's snapshot, or of the reading of the live file."""
    reading = snapshot.readings.get("page_layout")
    return reading.as_of if reading is not None and reading.source != "none" else None


def _sample_fields(sample: Sample, now: float) -> Mapping[str, object]:
    labels = dict(zip(sample.metric.labels, sample.labels, strict=True))
    return {"name": sample.metric.name, "labels": labels, "value": sample.value_at(now)}


def _sample_rows(snapshot: Snapshot, now: float) -> Iterator[tuple[str, str]]:
    for sample in snapshot.samples:
        name = sample.metric.name.removeprefix("sqlite_")
        if name == "wal_state":
            if sample.value_at(now):
                yield "wal state", sample.labels[0]
            continue
        if name == "info":
            yield from zip(sample.metric.labels, sample.labels, strict=True)
            continue
        if name == "unused_bytes" and (as_of := _page_layout_time(snapshot)) is not None:
            yield "page layout as of", format_time(as_of)
        words = " ".join((name.replace("_", " "), *sample.labels))
        yield _without_unit(words, name), value_in_words(name, sample.value_at(now))


def _without_unit(words: str, name: str) -> str:
    for unit in (" timestamp seconds", " bytes", " seconds", " ratio"):
        if name.replace("_", " ").endswith(unit):
            return words.replace(unit, "", 1)
    return words


def value_in_words(name: str, value: float) -> str:
    """A value in the unit that its metric's name ends with, for a person."""
    if name.endswith("_timestamp_seconds"):
        return format_time(value)
    if name.endswith("_bytes"):
        return format_size(value)
    if name.endswith("_seconds"):
        return format_duration(value)
    if name.endswith("_ratio"):
        return f"{value:.1%}"
    return f"{value:g}" if value != int(value) else str(int(value))
