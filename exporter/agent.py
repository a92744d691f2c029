"""Builds the agent of its configuration: what looks, what decides, what acts, what answers. The wiring, nothing else."""

import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from collectors.poll import take
from collectors.raw_reader.ask import LockTableUnseen, RawReader, RawReaderUnavailable
from collectors.reading.snapshot import Snapshot
from collectors.registry import COLLECTORS
from collectors.target import Target
from exporter.alert_inbox import AlertInbox
from exporter.board import Board
from exporter.config.resolve import targets
from exporter.config.settings import Config
from exporter.dispatcher import Dispatcher, Lanes
from exporter.exposition import Exposition
from exporter.own_metrics import Facts
from exporter.poll_loop import PollLoop, Timing
from exporter.threshold_watch import ThresholdWatch
from exporter.web.front import ActRight, DatabaseLine, Front

VERSION = version("queuekeeper")


class Agent:
    """One running agent. `start`, then serve `front`, then `stop`."""

    def __init__(self, config: Config, telemetry_path: str = "/metrics") -> None:
        self._config = config
        self._started = time.time()
        self._stopping = False
        self._answers: Counter[int] = Counter()
        self._raw = RawReader()
        self._board = Board()
        self._dispatcher = Dispatcher(
            config.state,
            self._targets,
            self._lock_held,
            on_end=lambda database: self._polls.poll_soon(database),
            enabled=config.acting.enabled,
            lanes=Lanes(config.acting.short, config.acting.long),
            trust_owner=config.acting.checkpoint_vulnerable_owner,
        )
        rules = config.rules if config.acting.enabled else ()
        self._inbox = AlertInbox(config.state, lambda: rules, self._targets, config.identity, self._dispatcher.wake)
        self._watch = ThresholdWatch(
            config.state, lambda: rules, busy_with=self._dispatcher.is_busy_with, wake=self._dispatcher.wake
        )
        self._polls = PollLoop(
            lambda: targets(config),
            lambda target, previous, now: take(target, previous, now, self._raw),
            self._board,
            self._watch.look,
            Timing(config.interval, config.rescan),
        )
        declared = [metric for collector in COLLECTORS for metric in collector.METRICS]
        self._exposition = Exposition(declared, self._facts, time.time)
        self.front = Front(
            version=VERSION,
            render=self._exposition.render,
            not_ready=self._not_ready,
            databases=self._lines,
            act_right=lambda: ActRight(config.acting.enabled, config.acting.token_digests),
            receive=self._inbox.receive,
            answered=self._answered,
            telemetry_path=telemetry_path,
        )

    def start(self) -> None:
        """Recover what a former agent lost, then look and act. Raises StoreUnavailable."""
        self._dispatcher.recover()
        self._polls.start()
        self._dispatcher.start()

    def begin_to_stop(self) -> None:
        """Not ready any more; what runs goes on until `stop`."""
        self._stopping = True

    def stop(self) -> None:
        """End the polls, and every action at its next safe point."""
        self._stopping = True
        self._dispatcher.stop()
        self._polls.stop()
        self._raw.close()

    def _targets(self) -> Mapping[str, Target]:
        return {target.name: target for target in self._board.view(time.time(), self._config.interval).targets}

    def _lock_held(self, path: str) -> bool:
        """Whether somebody holds the action lock of this database. Unknown counts as held: nothing is ended on a guess."""
        try:
            return self._raw.flock_holder(Path(path)) is not None
        except (RawReaderUnavailable, LockTableUnseen):
            return True

    def _facts(self, now: float) -> Facts:
        seen = self._dispatcher.view
        return Facts(
            version=VERSION,
            config=self._config,
            view=self._board.view(now, self._config.interval),
            totals=seen.totals,
            webhook_requests=dict(self._answers),
            webhook_alerts=dict(self._inbox.counts),
            paused=seen.paused,
            state_writable=seen.writable,
            reload_time=self._started,
        )

    def _not_ready(self) -> str:
        if self._stopping:
            return "stopping"
        return "" if self._board.ready() else "not every database was read yet"

    def _answered(self, code: int) -> None:
        self._answers[code] += 1

    def _lines(self) -> list[DatabaseLine]:
        view = self._board.view(time.time(), self._config.interval)
        return [_line(target, view.state(target.name), view.fresh.get(target.name)) for target in view.targets]


def _line(target: Target, state: str, snapshot: Snapshot | None) -> DatabaseLine:
    return DatabaseLine(target.name, str(target.path), state, snapshot.message if snapshot is not None else "")
