"""The operations of an agent that has read nothing yet and runs nothing: for tests of what stands before it."""

from pathlib import Path

from collectors.target import Target
from exporter.config.settings import ActingSettings, Config
from exporter.exposition.latest import LatestSnapshots
from exporter.status.dry_runs import DryRuns
from exporter.status.events import EventBroadcast
from exporter.status.operations import Operations
from exporter.status.recent_readings import RecentReadings
from exporter.triggers.dispatcher import Dispatcher


def idle_operations(state: Path, *targets: Target) -> Operations:
    """Its history lies in `state`, made when it is first asked."""
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
