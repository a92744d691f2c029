"""The operations of an agent that has read nothing yet and runs nothing, for tests of the web server before it."""

from pathlib import Path

from actions.store.database import state_store
from actions.store.pause import pause_reason
from collectors.target import Target
from exporter.config.settings import ActingSettings, Config
from exporter.exposition.latest import LatestSnapshots
from exporter.status.dry_runs import DryRuns
from exporter.status.events import EventBroadcast
from exporter.status.operations import Operations
from exporter.status.recent_readings import RecentReadings
from exporter.triggers.dispatcher import Dispatcher


def idle_operations(state: Path, *targets: Target) -> Operations:
    """Return operations whose state store lies in `state` and is created at its first use."""
    config = Config(state / "queuekeeper.yaml", (), state=state)
    board = LatestSnapshots()
    board.set_targets(targets)
    dispatcher = Dispatcher(
        state,
        board.watched_targets,
        lambda _: False,
        on_end=lambda _: None,
        acting=lambda: ActingSettings(enabled=True),
    )
    return Operations(
        lambda: config,
        board,
        dispatcher,
        dict,
        DryRuns(state, lambda: config.acting),
        EventBroadcast(),
        RecentReadings(),
    )


def pause_reasons(state: Path) -> list[str]:
    """Return the reason of the pause in this state store, or nothing when actions are not paused."""
    with state_store(state) as store:
        reason = pause_reason(store)
    return [] if reason is None else [reason]
