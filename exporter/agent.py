"""Builds the agent of its configuration: what looks, what decides, what acts, what answers. The wiring, nothing else."""

import logging
import threading
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from actions.policy.alerts import Delivery
from actions.policy.rules import Rule
from actions.policy.schedules import Schedule
from actions.runner.cancel import cancel
from actions.runner.pause_and_cancel import pause_all, settle
from actions.store.database import StoreUnavailable, history
from actions.store.pause import resume
from actions.store.runs import Run
from collectors.access.snapshot import Snapshot
from collectors.poll_if_changed import look_ahead, revisit
from collectors.raw_reader.client import LockTableUnseen, RawReader, RawReaderUnavailable
from collectors.registry import COLLECTORS
from collectors.target import Target
from exporter.config.exposure import unguarded
from exporter.config.known import known_actions, known_metrics
from exporter.config.load import load
from exporter.config.problems import ConfigErrors
from exporter.config.resolve import targets
from exporter.config.settings import Config
from exporter.exposition.latest import Board
from exporter.exposition.page import Exposition
from exporter.exposition.self_metrics import Facts
from exporter.log import event
from exporter.polling.free_pages import FreePageWatch
from exporter.polling.loop import PollLoop, Timing
from exporter.polling.state_log import StateLog
from exporter.status.dry_runs import DryRuns
from exporter.status.events import Broadcast, of_reading, of_run
from exporter.status.operations import Operations
from exporter.status.recent_readings import Recent
from exporter.triggers.alerts import AlertInbox, Receipt
from exporter.triggers.dispatcher import Dispatcher
from exporter.triggers.schedules import ScheduleWatch
from exporter.triggers.thresholds import ThresholdWatch
from exporter.web.context import ActRight, Front
from exporter.web.mount import Mount
from exporter.web_config.reload import KeptWebConfig

VERSION = version("queuekeeper")
# How long the answer to a pause waits for what runs to stop, in seconds.
PATIENCE = 1.0
LOG = logging.getLogger(__name__)


class Agent:
    """One running agent. `start`, then serve `front`, then `stop`. `hosts`: the addresses it answers at, without a port."""

    def __init__(
        self,
        config: Config,
        web: KeptWebConfig | None = None,
        mount: Mount | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self._config, self._hosts = config, hosts
        self._web = web or KeptWebConfig(None)
        self._reloaded = time.time()
        self._not_reloaded: tuple[str, ...] = ()
        self._reloading = threading.Lock()
        self._stopping = False
        self._answers: Counter[int] = Counter()
        self._raw = RawReader()
        self._board = Board()
        self._broadcast, self._recent = Broadcast(), Recent()
        self._dispatcher = Dispatcher(
            config.state,
            self._board.targets,
            self._lock_held,
            on_end=lambda database: self._polls.poll_soon(database),
            acting=lambda: self._config.acting,
            on_event=lambda run, said: self._broadcast.tell(of_run(run, said)),
            rules=self._rules,
        )
        self._dry_runs = DryRuns(config.state, lambda: self._config.acting)
        self._inbox = AlertInbox(
            config.state, self._rules, self._board.targets, lambda: self._config.identity, self._dispatcher.wake
        )
        self._watch = ThresholdWatch(
            config.state,
            self._rules,
            busy_with=self._dispatcher.is_busy_with,
            standings=lambda: self._dispatcher.view.totals.standings,
            wake=self._dispatcher.wake,
        )
        self._schedules = ScheduleWatch(
            config.state, self._active_schedules, self._board.targets, wake=self._dispatcher.wake
        )
        self._states = StateLog()
        self._free_pages = FreePageWatch(config.state)
        self._polls = PollLoop(
            self._find,
            lambda target, previous, now: revisit(target, previous, now, self._raw),
            self._board,
            self._seen,
            Timing(config.interval, config.rescan),
            ahead=lambda batch: look_ahead(batch, self._raw),
        )
        declared = [metric for collector in COLLECTORS for metric in collector.METRICS]
        self._exposition = Exposition(declared, self._facts, time.time)
        self.front = self._answering(mount or Mount())

    def start(self) -> None:
        """Recover what a former agent lost, then look and act. Raises StoreUnavailable."""
        self._dispatcher.recover()
        self._watch.recover()
        self._polls.start()
        self._dispatcher.start()
        self._schedules.start()

    def begin_to_stop(self) -> None:
        """Not ready any more; what runs goes on until `stop`."""
        self._stopping = True
        self._broadcast.close()

    def stop(self) -> None:
        """End the polls, and every action at its next safe point."""
        self._stopping = True
        self._schedules.stop()
        self._dry_runs.stop()
        self._dispatcher.stop()
        self._polls.stop()
        self._free_pages.write(time.time())
        self._raw.close()

    def _answering(self, mount: Mount) -> Front:
        """What answers over HTTP: it reads the board and history, and asks us for everything else."""
        return Front(
            version=VERSION,
            render=self._exposition.render,
            not_ready=self._not_ready,
            act_right=self._act_right,
            receive=self._receive,
            answered=self._answered,
            reload=self.reload,
            pause=self._pause,
            resume=self._resume,
            finishing=self._finishing,
            cancel=self._cancel,
            operations=Operations(
                lambda: self._config,
                self._board,
                self._dispatcher,
                self._watch.since,
                self._dry_runs,
                self._broadcast,
                self._recent,
                self._trouble,
            ),
            web=self._web.current,
            mount=mount,
        )

    def reload(self) -> tuple[str, ...]:
        """Read the configuration again; the reasons why it was not taken over, none when it was.

        Databases, times, rules, the right to act: everything but where our history lives. A bad file changes nothing.
        """
        with self._reloading:
            reasons = self._take_over()
        for reason in reasons:
            event(LOG, logging.ERROR, "configuration not reloaded, the former one goes on", reason=reason)
        return reasons

    def _take_over(self) -> tuple[str, ...]:
        try:
            read = load(self._config.source, known_actions(), known_metrics())
        except ConfigErrors as error:
            self._not_reloaded = error.lines
            return error.lines
        if (trouble := unguarded(read.acting, self._hosts)) is not None:
            self._not_reloaded = (trouble,)
            return (trouble,)
        if read.state != self._config.state:
            reason = f"state: {read.state} instead of {self._config.state}: that needs a restart; nothing was changed"
            self._not_reloaded = (reason,)
            return self._not_reloaded
        self._config, self._reloaded, self._not_reloaded = read, time.time(), ()
        self._watch.keep_only(self._rules())
        self._polls.rescan_soon(Timing(read.interval, read.rescan))
        self._schedules.look_again()
        self._dispatcher.wake()
        for warning in read.warnings:
            event(LOG, logging.WARNING, warning)
        event(LOG, logging.INFO, "configuration reloaded", file=read.source, acting=read.acting.enabled)
        return ()

    def _pause(self, why: str) -> str:
        """Stop every action from starting; since when and why. A pause that holds already stays. Raises StoreUnavailable."""
        with history(self._config.state) as store:
            before = pause_all(store, why)
        if before is None:
            event(LOG, logging.WARNING, "actions are paused", why=why, next_step="queuekeeper resume")
        self._dispatcher.wake()
        return before or why

    def _finishing(self) -> tuple[Run, ...]:
        """What is still on the way to its safe point a second after a pause. Raises StoreUnavailable."""
        with history(self._config.state) as store:
            return settle(store, PATIENCE).finishing

    def _cancel(self, run_id: int, who: str) -> Run:
        """End a run that waits, ask one that runs to stop. Raises KeyError, Refused, StoreUnavailable."""
        with history(self._config.state) as store:
            found = cancel(store, run_id, who, time.time())
        event(LOG, logging.INFO, "run is cancelled", run=run_id, by=who, state=found.state)
        return found

    def _resume(self) -> None:
        """Let actions start again. Raises StoreUnavailable."""
        with history(self._config.state) as store:
            lifted = resume(store)
        event(LOG, logging.INFO, "actions may start again", suspensions_lifted=lifted)
        self._dispatcher.wake()

    def _find(self) -> tuple[Target, ...]:
        found = targets(self._config)
        self._recent.keep_only(target.name for target in found)
        return found

    def _trouble(self) -> tuple[str, ...]:
        """What is wrong with the agent itself, a sentence each."""
        unwritable = "our history cannot be written: free space or fix permissions; nothing is done meanwhile"
        reasons = (*self._not_reloaded, *self._web.problems)
        not_taken = tuple(f"the configuration was not taken over, the former one goes on: {one}" for one in reasons)
        return not_taken if self._dispatcher.view.writable else (*not_taken, unwritable)

    def _rules(self) -> tuple[Rule, ...]:
        return self._config.rules if self._config.acting.enabled else ()

    def _active_schedules(self) -> tuple[Schedule, ...]:
        return self._config.schedules if self._config.acting.enabled else ()

    def _seen(self, snapshot: Snapshot) -> None:
        self._exposition.keep(snapshot)
        self._states.look(snapshot)
        self._watch.look(snapshot)
        self._free_pages.look(snapshot)
        self._recent.keep(snapshot)
        self._broadcast.tell(of_reading(snapshot))

    def _receive(self, delivery: Delivery) -> Receipt:
        try:
            return self._inbox.receive(delivery)
        except StoreUnavailable:
            self._dispatcher.doubt_history()
            raise

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
            webhook_truncated=self._inbox.truncated,
            paused=seen.paused,
            state_writable=seen.writable,
            reload_successful=not (self._not_reloaded or self._web.problems),
            reload_time=self._reloaded,
        )

    def _not_ready(self) -> str:
        if self._stopping:
            return "stopping"
        return "" if self._board.ready() else "not every database was read yet"

    def _answered(self, code: int) -> None:
        self._answers[code] += 1

    def _act_right(self) -> ActRight:
        acting = self._config.acting
        return ActRight(acting.enabled, acting.token_digests, acting.users, acting.client_sans)
