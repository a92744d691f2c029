"""Builds the agent of a configuration and connects its parts: polling, triggers, dispatcher, metrics page and web server."""

import gc
import logging
import threading
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from actions.policy.alerts import Delivery
from actions.policy.rules import Rule
from actions.policy.schedules import Schedule
from actions.store.database import StoreUnavailable
from collectors.access.snapshot import Snapshot
from collectors.poll_if_changed import poll_if_changed, prefetch_surveys
from collectors.raw_reader.client import LockTableUnseen, RawReader, RawReaderUnavailable
from collectors.registry import COLLECTORS
from collectors.target import Target
from exporter.config.exposure import exposure_problem
from exporter.config.load import known_actions, known_metrics, load_config
from exporter.config.problems import ConfigErrors
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config
from exporter.exposition.latest import LatestSnapshots
from exporter.exposition.page import Exposition
from exporter.exposition.self_metrics import ExporterState
from exporter.log import log_event
from exporter.polling.content_memory import ContentKeeper
from exporter.polling.free_pages import FreePageRecorder
from exporter.polling.loop import PollLoop, PollTiming
from exporter.polling.state_log import StateLog
from exporter.status.dry_runs import DryRuns
from exporter.status.events import EventBroadcast, reading_event, run_event
from exporter.status.operations import Operations
from exporter.status.recent_readings import RecentReadings
from exporter.triggers.alerts import AlertInbox, DeliveryReceipt
from exporter.triggers.dispatcher import Dispatcher
from exporter.triggers.schedules import ScheduleTrigger
from exporter.triggers.thresholds import ThresholdTrigger
from exporter.web.address import Mount
from exporter.web.context import ActingRights, WebContext
from exporter.web_config.reload import ReloadingWebConfig

VERSION = version("queuekeeper")
# How often Python searches for cycles of objects that refer to each other; readings form none. With Python's own numbers it
# searches all readings of a thousand databases again and again while the first ones arrive: a sixth of the CPU of a start
# (bench/first_page.py).
GC_ALLOCATIONS, GC_YOUNG, GC_OLD = 50_000, 20, 20
LOG = logging.getLogger(__name__)


class Agent:
    """One agent: call `start`, serve `web_context`, then call `stop`.

    `hosts` are the addresses where it listens, without a port.
    """

    def __init__(
        self,
        config: Config,
        web: ReloadingWebConfig | None = None,
        mount: Mount | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self._config, self._hosts = config, hosts
        self._web = web or ReloadingWebConfig(None)
        self._reload_time = time.time()
        self._reload_errors: tuple[str, ...] = ()
        self._reloading = threading.Lock()
        self._stopping = False
        self._answers: Counter[int] = Counter()
        self._raw_reader = RawReader()
        self._latest = LatestSnapshots()
        self._broadcast, self._recent = EventBroadcast(), RecentReadings()
        self._dispatcher = Dispatcher(
            config.state,
            self._latest.watched_targets,
            self._is_lock_held,
            on_end=lambda database: self._polls.poll_soon(database),
            acting=lambda: self._config.acting,
            on_event=lambda run, event: self._broadcast.publish_event(run_event(run, event)),
            rules=self._active_rules,
        )
        self._dry_runs = DryRuns(config.state, lambda: self._config.acting)
        self._inbox = AlertInbox(
            config.state,
            self._active_rules,
            self._latest.watched_targets,
            lambda: self._config.identity,
            self._dispatcher.wake_up,
        )
        self._thresholds = ThresholdTrigger(
            config.state,
            self._active_rules,
            busy_with=self._dispatcher.is_busy_with,
            suspensions=lambda: self._dispatcher.view.totals.suspensions,
            wake=self._dispatcher.wake_up,
        )
        self._schedules = ScheduleTrigger(
            config.state, self._active_schedules, self._latest.watched_targets, wake=self._dispatcher.wake_up
        )
        self._state_log = StateLog()
        self._free_pages = FreePageRecorder(config.state)
        self._contents = ContentKeeper(config.state)
        self._polls = PollLoop(
            self._find_targets,
            lambda target, previous, now: poll_if_changed(
                target, self._contents.previous_snapshot(target, previous), now, self._raw_reader
            ),
            self._latest,
            self._on_snapshot,
            PollTiming(config.interval, config.rescan),
            prefetch=lambda batch: prefetch_surveys(batch, self._raw_reader),
        )
        declared = [metric for collector in COLLECTORS for metric in collector.METRICS]
        self._exposition = Exposition(declared, self._exporter_state, time.time)
        self.web_context = self._build_web_context(mount or Mount())

    def start(self) -> None:
        """Recover the runs and waits of a former agent, then start to poll and to act. Raises StoreUnavailable."""
        self._dispatcher.recover_lost()
        self._thresholds.recover_waits()
        self._polls.start()
        self._dispatcher.start()
        self._schedules.start()

    def begin_to_stop(self) -> None:
        """Report not ready from now on, and end the event streams; running actions continue until `stop`."""
        self._stopping = True
        self._broadcast.close()

    def stop(self) -> None:
        """Stop the polls, and every action at its next safe point."""
        self._stopping = True
        self._schedules.stop()
        self._dry_runs.stop()
        self._dispatcher.stop()
        self._polls.stop()
        self._free_pages.write(time.time())
        self._contents.write(time.time())
        self._raw_reader.close()

    def _build_web_context(self, mount: Mount) -> WebContext:
        """Return what the web server needs of this agent."""
        return WebContext(
            version=VERSION,
            render=self._exposition.render,
            not_ready=self._not_ready_reason,
            acting_rights=self._acting_rights,
            receive_delivery=self._receive_delivery,
            count_answer=self._count_answer,
            reload=self.reload_configuration,
            operations=Operations(
                lambda: self._config,
                self._latest,
                self._dispatcher,
                self._thresholds.current_watches,
                self._dry_runs,
                self._broadcast,
                self._recent,
                self._own_problems,
            ),
            web=self._web.current_config,
            mount=mount,
        )

    def reload_configuration(self) -> tuple[str, ...]:
        """Read the configuration again and return the reasons why it was rejected, none when it was applied.

        Everything can change but the path of the state store. A configuration with an error changes nothing.
        """
        with self._reloading:
            reasons = self._apply_configuration()
        for reason in reasons:
            log_event(LOG, logging.ERROR, "configuration rejected, the former one stays in effect", reason=reason)
        return reasons

    def _apply_configuration(self) -> tuple[str, ...]:
        try:
            config = load_config(self._config.source, known_actions(), known_metrics())
        except ConfigErrors as error:
            self._reload_errors = error.lines
            return error.lines
        if (problem := exposure_problem(config.acting, self._hosts)) is not None:
            self._reload_errors = (problem,)
            return (problem,)
        if config.state != self._config.state:
            reason = f"state: {config.state} instead of {self._config.state}: changing it needs a restart; nothing was changed"
            self._reload_errors = (reason,)
            return self._reload_errors
        self._config, self._reload_time, self._reload_errors = config, time.time(), ()
        self._thresholds.keep_only(self._active_rules())
        self._polls.rescan_soon(PollTiming(config.interval, config.rescan))
        self._schedules.check_schedules_soon()
        self._dispatcher.wake_up()
        for warning in config.warnings:
            log_event(LOG, logging.WARNING, warning)
        log_event(LOG, logging.INFO, "configuration reloaded", file=config.source, acting=config.acting.enabled)
        return ()

    def _find_targets(self) -> tuple[Target, ...]:
        targets = resolve_targets(self._config)
        self._recent.keep_only(target.name for target in targets)
        return targets

    def _own_problems(self) -> tuple[str, ...]:
        """Return the problems of the agent itself, a sentence each."""
        unwritable = "the state store cannot be written, so no action starts: free space or fix its permissions"
        reasons = (*self._reload_errors, *self._web.problems)
        rejected = tuple(f"configuration rejected, the former one stays in effect: {reason}" for reason in reasons)
        return rejected if self._dispatcher.view.writable else (*rejected, unwritable)

    def _active_rules(self) -> tuple[Rule, ...]:
        return self._config.rules if self._config.acting.enabled else ()

    def _active_schedules(self) -> tuple[Schedule, ...]:
        return self._config.schedules if self._config.acting.enabled else ()

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        self._exposition.update_database(snapshot)
        self._state_log.on_snapshot(snapshot)
        self._thresholds.on_snapshot(snapshot)
        self._free_pages.on_snapshot(snapshot)
        self._contents.on_snapshot(snapshot)
        self._recent.add_snapshot(snapshot)
        self._broadcast.publish_event(reading_event(snapshot))

    def _receive_delivery(self, delivery: Delivery) -> DeliveryReceipt:
        try:
            return self._inbox.receive_delivery(delivery)
        except StoreUnavailable:
            self._dispatcher.recheck_store()
            raise

    def _is_lock_held(self, path: str) -> bool:
        """Return whether a process holds the action lock of this database.

        An unknown holder counts as one: no run is ended on a guess.
        """
        try:
            return self._raw_reader.find_flock_holder(Path(path)) is not None
        except (RawReaderUnavailable, LockTableUnseen):
            return True

    def _exporter_state(self, now: float) -> ExporterState:
        view = self._dispatcher.view
        return ExporterState(
            version=VERSION,
            config=self._config,
            view=self._latest.view_at(now, self._config.interval),
            totals=view.totals,
            webhook_requests=dict(self._answers),
            webhook_alerts=dict(self._inbox.counts),
            webhook_truncated=self._inbox.truncated,
            paused=view.paused,
            state_writable=view.writable,
            reload_successful=not (self._reload_errors or self._web.problems),
            reload_time=self._reload_time,
        )

    def _not_ready_reason(self) -> str:
        if self._stopping:
            return "stopping"
        return "" if self._latest.all_databases_polled() else "not every database was polled yet"

    def _count_answer(self, code: int) -> None:
        self._answers[code] += 1

    def _acting_rights(self) -> ActingRights:
        acting = self._config.acting
        return ActingRights(acting.enabled, acting.token_digests, acting.users, acting.client_sans, acting.token_names)


def relax_garbage_collection() -> None:
    """Exempt what exists now from the search for cycles, and search what comes later only after many allocations."""
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, GC_YOUNG, GC_OLD)
