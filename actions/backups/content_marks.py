"""Marks a backup of a database that lost most of its content: it is proved, yet not one to restore unasked or to keep alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from actions.backups.consistent_copy import ProvedCopy
from actions.backups.store import BackupStore
from actions.model.context import ActionContext
from collectors.access.connection import open_immutable
from collectors.access.errors import EXPECTED_ERRORS
from collectors.access.open_database import read_schema
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.manifest import Manifest
from collectors.backup_catalog.order import newest_verified
from collectors.content_loss.facts import (
    NOTHING_LOST,
    accept_backups,
    facts_of_manifest,
    plain_tables,
    read_content_facts,
)
from collectors.content_loss.judge import ContentFacts
from collectors.content_loss.memory import ContentMemory, greatest_loss
from collectors.queue_profiles.cache import cached_profile


@dataclass(frozen=True, slots=True)
class ContentMarks:
    """What the manifest says of the content; `lost` in words, empty where it lacks nothing that matters."""

    facts: ContentFacts = field(default_factory=lambda: ContentFacts(0.0))
    lost: str = ""

    def mark_manifest(self, manifest: Manifest, *, accepted: bool) -> Manifest:
        """The manifest with these marks; `accepted`: a person said that the content is as it should be."""
        return replace(
            manifest,
            content_lost="" if accepted else self.lost,
            accepted_loss=(self.lost or NOTHING_LOST) if accepted else "",
            last_numbers=dict(self.facts.numbers),
            schema_version=self.facts.schema_version,
        )


def judge_copy(context: ActionContext, store: BackupStore, copy: Path, proved: ProvedCopy) -> ContentMarks:
    """Hold a proved copy against the newest backup that lacks nothing, and against earlier readings of the database."""
    backups = store.list_backups().backups.values()
    remembered = context.run_history.content_memory().of_file(str(context.target.path.resolve()))
    memory = accept_backups(remembered, backups)
    facts = memory.excuse_tables(_read_exact_facts(context, copy, proved))
    loss = greatest_loss(_baselines(memory, backups, context.now()), facts)
    return ContentMarks(facts, loss.words if loss is not None and loss.is_most else "")


def _read_exact_facts(context: ActionContext, copy: Path, proved: ProvedCopy) -> ContentFacts:
    with open_immutable(copy) as connection:
        schema = read_schema(connection)
        try:
            profile = cached_profile(connection, schema, context.target)
        except EXPECTED_ERRORS:  # the collectors report it; without a profile no table is excused
            profile = None
        facts = read_content_facts(connection, schema, profile, context.now())
    entries = [row for row in schema if len(row) == 4]
    expected = proved.expected
    exact = {table: expected.row_counts.get(table, facts.rows.get(table, 0)) for table in plain_tables(entries)}
    return replace(facts, rows=exact, pages=expected.pages, schema_version=proved.schema_version, exact=True)


def _baselines(memory: ContentMemory, backups: Iterable[Backup], now: float) -> Iterator[ContentFacts]:
    yield from memory.baselines()
    newest = newest_verified(backups, now)
    if newest is not None and newest.manifest is not None and newest.manifest.snapshot_time >= memory.accepted_at:
        yield facts_of_manifest(newest.manifest)
