"""News of the agent, passed on to whoever listens now: readings, runs, the pause. Nobody who listens can hold up who tells.

News of the same thing replaces what a listener has not taken yet, and a listener that takes nothing loses news and learns
that it did: what is kept for it is bounded.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from actions.model.events import Event
from actions.store.runs import Run
from collectors.access.snapshot import Snapshot

MAX_QUEUED_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """`kind`: reading, run, paused, lost. `about` is plain data; `same_as` names what newer news of it replaces."""

    kind: str
    about: Mapping[str, object] = field(default_factory=dict)
    same_as: tuple[object, ...] = ()


EVENTS_LOST = StatusEvent("lost")


def reading_event(snapshot: Snapshot) -> StatusEvent:
    """A database was looked at."""
    name = snapshot.target.name
    return StatusEvent(
        "reading", {"database": name, "state": snapshot.state, "taken_at": snapshot.taken_at}, ("reading", name)
    )


def run_event(run: Run, said: Event) -> StatusEvent:
    """What the child of a run says; of its progress only the newest is news."""
    about = {"run": run.id, "database": run.database, "action": run.action, "trigger": run.trigger}
    same = ("progress", run.id) if said.kind == "progress" else ()
    return StatusEvent(
        "run", {**about, "kind": said.kind, "message": said.message, "figures": dict(said.figures)}, same
    )


class EventListener:
    """One who listens. `wake` is called, from any thread, when there is something to take."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._kept: dict[tuple[object, ...], StatusEvent] = {}
        self._guard = threading.Lock()
        self._count = 0
        self.ended = False

    def add_event(self, news: StatusEvent) -> None:
        """Keep it until it is taken."""
        with self._guard:
            self._count += 1
            key = news.same_as or (self._count,)
            self._kept.pop(key, None)  # the newest comes last
            if len(self._kept) >= MAX_QUEUED_EVENTS:
                self._kept = {("lost",): EVENTS_LOST}
            self._kept[key] = news
        self._wake()

    def take_events(self) -> list[StatusEvent]:
        """Everything since the last time, in order."""
        with self._guard:
            taken, self._kept = list(self._kept.values()), {}
        return taken

    def end_stream(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._wake()


class EventBroadcast:
    """Safe to use from any thread. Of more than `places` listeners the oldest one ends."""

    def __init__(self, places: int = 32) -> None:
        self._places = places
        self._listeners: list[EventListener] = []
        self._guard = threading.Lock()
        self._closed = False

    def publish_event(self, news: StatusEvent) -> None:
        """Pass it on; costs next to nothing while nobody listens."""
        with self._guard:
            listeners = tuple(self._listeners)
        for one in listeners:
            one.add_event(news)

    def add_listener(self, wake: Callable[[], None]) -> EventListener:
        """Begin to listen, until `leave`."""
        listener = EventListener(wake)
        with self._guard:
            self._listeners.append(listener)
            outlived = self._listeners[: -self._places]
            self._listeners = self._listeners[-self._places :]
            if self._closed:
                outlived = [*outlived, listener]
        for one in outlived:
            one.end_stream()
        return listener

    def remove_listener(self, listener: EventListener) -> None:
        """Listen no more."""
        with self._guard:
            self._listeners = [one for one in self._listeners if one is not listener]

    def close(self) -> None:
        """End all listeners, and whoever comes later: the agent stops."""
        with self._guard:
            self._closed = True
            listeners = tuple(self._listeners)
        for one in listeners:
            one.end_stream()
