"""A desk of an agent that has read nothing yet and runs nothing: for tests of what stands before it."""

from pathlib import Path

from collectors.target import Target
from exporter.board import Board
from exporter.config.settings import Acting, Config
from exporter.desk import Desk
from exporter.dispatcher import Dispatcher
from exporter.recent import Recent
from exporter.rehearsal import Rehearsals
from exporter.relay import Relay


def empty_desk(state: Path, *targets: Target) -> Desk:
    """Its history lies in `state`, made when it is first asked."""
    config = Config(state / "queuekeeper.yaml", (), state=state)
    board = Board()
    board.watch(targets)
    dispatcher = Dispatcher(
        state, board.targets, lambda _: False, on_end=lambda _: None, acting=lambda: Acting(enabled=True)
    )
    return Desk(lambda: config, board, dispatcher, dict, Rehearsals(state, lambda: config.acting), Relay(), Recent())
