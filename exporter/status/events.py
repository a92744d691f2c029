"""Events of the agent for the listeners that are open now: readings, runs, the pause. A listener never delays the publisher.

An event replaces an older one of the same subject that a listener has not taken yet. The queue of a listener is bounded: one
that takes nothing loses events, and gets an event that says so.
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
    """One event. `kind` is reading, run, paused or lost; `about` is plain data.

    A newer event replaces an older one with the same `same_as`, unless that is empty.
    """

    kind: str
    about: Mapping[str, object] = field(default_factory=dict)
    same_as: tuple[object, ...] = ()


EVENTS_LOST = StatusEvent("lost")


def reading_event(snapshot: Snapshot) -> StatusEvent:
    """Return the event of a new reading."""
    name = snapshot.target.name
    return StatusEvent(
        "reading", {"database": name, "state": snapshot.state, "taken_at": snapshot.taken_at}, ("reading", name)
    )


def run_event(run: Run, event: Event) -> StatusEvent:
    """Return the event for a message of a run's child; a newer progress replaces an older one."""
    about = {"run": run.id, "database": run.database, "action": run.action, "trigger": run.trigger}
    same = ("progress", run.id) if event.kind == "progress" else ()
    return StatusEvent(
        "run", {**about, "kind": event.kind, "message": event.message, "figures": dict(event.figures)}, same
    )


class EventListener:
    """The queue of one listener. `wake` is called, from any thread, when there is an event to take."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._queued: dict[tuple[object, ...], StatusEvent] = {}
        self._guard = threading.Lock()
        self._count = 0
        self.ended = False

    def add_event(self, news: StatusEvent) -> None:
        """Queue an event until it is taken."""
        with self._guard:
            self._count += 1
            key = news.same_as or (self._count,)
            self._queued.pop(key, None)  # the newest comes last
            if len(self._queued) >= MAX_QUEUED_EVENTS:
                self._queued = {("lost",): EVENTS_LOST}
            self._queued[key] = news
        self._wake()

    def take_queued_events(self) -> list[StatusEvent]:
        """Return all events since the last call, in order."""
        with self._guard:
            events, self._queued = list(self._queued.values()), {}
        return events

    def end_stream(self) -> None:
        """Mark the stream as ended, and wake the listener."""
        self.ended = True
        self._wake()


class EventBroadcast:
    """Passes events on to listeners. Safe to use from any thread. Above `places` listeners the oldest one ends."""

    def __init__(self, places: int = 32) -> None:
        self._places = places
        self._listeners: list[EventListener] = []
        self._guard = threading.Lock()
        self._closed = False

    def publish_event(self, news: StatusEvent) -> None:
        """Pass an event on to all listeners; almost free while there is none."""
        with self._guard:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener.add_event(news)

    def add_listener(self, wake: Callable[[], None]) -> EventListener:
        """Add a listener, until `remove_listener`."""
        listener = EventListener(wake)
        with self._guard:
            self._listeners.append(listener)
            ended = self._listeners[: -self._places]
            self._listeners = self._listeners[-self._places :]
            if self._closed:
                ended = [*ended, listener]
        for oldest in ended:
            oldest.end_stream()
        return listener

    def remove_listener(self, listener: EventListener) -> None:
        """Remove a listener."""
        with self._guard:
            self._listeners = [other for other in self._listeners if other is not listener]

    def close(self) -> None:
        """End all listeners and later ones at once: the agent stops."""
        with self._guard:
            self._closed = True
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener.end_stream()
