"""What changes the agent itself: reload, pause, resume. All need the right to act (`exporter.web.right`)."""

import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from actions.history.store import StoreUnavailable
from exporter.units import moment
from exporter.web.front import Front
from exporter.web.right import denied, refusal, who

Handler = Callable[[Request], Awaitable[Response]]
Answer = Callable[[Request], Response]


def reload(front: Front) -> Handler:
    """Read the configuration again; 500 with the reasons when it stays as it was, as Prometheus answers."""

    def answer(_request: Request) -> Response:
        reasons = front.reload()
        if reasons:
            return PlainTextResponse("configuration not reloaded:\n" + "\n".join(reasons) + "\n", 500)
        return PlainTextResponse("configuration reloaded\n")

    return _allowed(front, answer)


def pause(front: Front) -> Handler:
    """Stop every action from starting, also after a restart."""

    def answer(request: Request) -> Response:
        asked_by = who(request, front.act_right())
        return JSONResponse({"paused": True, "why": front.pause(f"by {asked_by} over HTTP at {moment(time.time())}")})

    return _allowed(front, answer)


def resume(front: Front) -> Handler:
    """Let actions start again."""

    def answer(_request: Request) -> Response:
        front.resume()
        return JSONResponse({"paused": False})

    return _allowed(front, answer)


def _allowed(front: Front, answer: Answer) -> Handler:
    async def handle(request: Request) -> Response:
        if (no := denied(request, front.act_right())) is not None:
            return refusal(no)
        try:
            return await run_in_threadpool(answer, request)
        except StoreUnavailable as error:
            return JSONResponse({"error": str(error)}, 503)

    return handle
