"""`GET /api/v1/events`: news of the agent as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

A client that does not read is cut off by the protocol's write deadline; until then the broadcast keeps a bounded amount for it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from exporter.status.events import EventListener, StatusEvent
from exporter.web.context import WebContext

# Proxies cut what says nothing; a comment says nothing too.
HEARTBEAT = 15.0
RECONNECT_MS = 3000


def events_handler(front: WebContext) -> Callable[[Request], Awaitable[Response]]:
    """The handler. Each stream ends when the agent stops, when too many others came, or when who may read or act changed:
    whoever still may opens another one, and passes the gate again."""

    async def open_stream(_request: Request) -> Response:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        let_in = _current_rights(front)
        listener = front.operations.broadcast.add_listener(lambda: _wake_stream(loop, news))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "close"}
        return StreamingResponse(
            _stream_events(front, listener, news, let_in), media_type="text/event-stream", headers=headers
        )

    return open_stream


def _wake_stream(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    if not news.is_set():
        loop.call_soon_threadsafe(news.set)


def _current_rights(front: WebContext) -> object:
    """Whatever a visitor's rights follow from; equal as long as nobody's can have changed."""
    web = front.web()
    return web.users, web.allowed_names, front.act_right()


async def _stream_events(
    front: WebContext, listener: EventListener, news: asyncio.Event, let_in: object
) -> AsyncIterator[str]:
    try:
        yield f"retry: {RECONNECT_MS}\n\n"
        while not listener.ended:
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT)
            except TimeoutError:
                yield ": still here\n\n"
            news.clear()
            if _current_rights(front) != let_in:
                return
            taken = listener.take_events()
            if taken:
                yield "".join(_format_event(one) for one in taken)
    finally:
        front.operations.broadcast.remove_listener(listener)


def _format_event(news: StatusEvent) -> str:
    """One event. JSON has no line breaks of its own, so nothing that is told can begin another field."""
    return f"event: {news.kind}\ndata: {json.dumps(news.about)}\n\n"
