"""`GET /api/v1/events`: news of the agent as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

A client that does not read is cut off by the protocol's write deadline; until then the broadcast keeps a bounded amount for it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from exporter.broadcast import Broadcast, Listener, News

# Proxies cut what says nothing; a comment says nothing too.
HEARTBEAT = 15.0
RECONNECT_MS = 3000


def events(broadcast: Broadcast) -> Callable[[Request], Awaitable[Response]]:
    """The handler. Each stream ends when the agent stops, or when too many others came."""

    async def stream(_request: Request) -> Response:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        listener = broadcast.listen(lambda: _ring(loop, news))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "close"}
        return StreamingResponse(_told(broadcast, listener, news), media_type="text/event-stream", headers=headers)

    return stream


def _ring(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    if not news.is_set():
        loop.call_soon_threadsafe(news.set)


async def _told(broadcast: Broadcast, listener: Listener, news: asyncio.Event) -> AsyncIterator[str]:
    try:
        yield f"retry: {RECONNECT_MS}\n\n"
        while not listener.ended:
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT)
            except TimeoutError:
                yield ": still here\n\n"
            news.clear()
            taken = listener.take()
            if taken:
                yield "".join(_lines(one) for one in taken)
    finally:
        broadcast.leave(listener)


def _lines(news: News) -> str:
    """One event. JSON has no line breaks of its own, so nothing that is told can begin another field."""
    return f"event: {news.kind}\ndata: {json.dumps(news.about)}\n\n"
