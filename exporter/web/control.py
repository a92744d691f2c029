"""What changes the agent itself: reload, pause, resume, cancel. All need the right to act (`exporter.web.authorization`)."""

import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from actions.model.errors import Refused
from actions.store.database import StoreUnavailable
from exporter.text.units import moment
from exporter.web.authorization import denied, refusal, who
from exporter.web.context import Front
from exporter.web.responses import AsJson

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
    """Stop every action, also after a restart; answers after a second at most, with what is still finishing."""

    def answer(request: Request) -> Response:
        why = front.pause(f"by {who(request, front.act_right())} at {moment(time.time())}")
        finishing = [{"run": one.id, "database": one.database, "action": one.action} for one in front.finishing()]
        return AsJson({"paused": True, "why": why, "finishing": finishing})

    return _allowed(front, answer)


def cancel(front: Front) -> Handler:
    """End one run: at once while it waits, else at its next safe point. 404 unknown, 409 ended already."""

    def answer(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        try:
            found = front.cancel(run_id, who(request, front.act_right()))
        except (KeyError, OverflowError):  # no number of ours is longer than 64 bits
            return AsJson({"error": f"there is no run {run_id}"}, 404)
        except Refused as error:
            return AsJson({"error": error.sentence()}, 409)
        return AsJson({"run": found.id, "state": found.state, "outcome": found.outcome}, 202)

    return _allowed(front, answer)


def resume(front: Front) -> Handler:
    """Let actions start again."""

    def answer(_request: Request) -> Response:
        front.resume()
        return AsJson({"paused": False})

    return _allowed(front, answer)


def _allowed(front: Front, answer: Answer) -> Handler:
    async def handle(request: Request) -> Response:
        if (no := denied(request, front.act_right())) is not None:
            return refusal(no)
        try:
            return await run_in_threadpool(answer, request)
        except StoreUnavailable as error:
            return AsJson({"error": str(error)}, 503)

    return handle
