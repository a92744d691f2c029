"""`GET /api/v1/events`: the events of the agent as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

A client that does not read is disconnected at the protocol's write deadline; until then a bounded number of events is
queued for it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from exporter.status.events import EventListener, StatusEvent
from exporter.web.context import WebContext

# Proxies close silent connections, so a comment is sent in between.
HEARTBEAT = 15.0
RECONNECT_MS = 3000


def events_handler(context: WebContext) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of event streams.

    A stream ends when the agent stops, when too many newer ones are open, or when the rights to read or act changed. The
    browser then reconnects, and the middleware checks its rights again.
    """

    async def open_stream(_request: Request) -> Response:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        rights = _current_rights(context)
        listener = context.operations.broadcast.add_listener(lambda: _wake_event_stream(loop, news))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "close"}
        return StreamingResponse(
            _stream_events(context, listener, news, rights), media_type="text/event-stream", headers=headers
        )

    return open_stream


def _wake_event_stream(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    if not news.is_set():
        loop.call_soon_threadsafe(news.set)


def _current_rights(context: WebContext) -> object:
    """Return all that the rights of viewers depend on; it is equal as long as they cannot have changed."""
    web = context.web()
    return web.users, web.allowed_names, context.acting_rights()


async def _stream_events(
    context: WebContext, listener: EventListener, news: asyncio.Event, rights: object
) -> AsyncIterator[str]:
    try:
        yield f"retry: {RECONNECT_MS}\n\n"
        while not listener.ended:
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT)
            except TimeoutError:
                yield ": still here\n\n"
            news.clear()
            if _current_rights(context) != rights:
                return
            events = listener.take_queued_events()
            if events:
                yield "".join(_format_sse_event(event) for event in events)
    finally:
        context.operations.broadcast.remove_listener(listener)


def _format_sse_event(news: StatusEvent) -> str:
    """Return one event as text. JSON has no line breaks, so no data can start another field."""
    return f"event: {news.kind}\ndata: {json.dumps(news.about)}\n\n"
