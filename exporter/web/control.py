"""What changes the agent itself: reload, pause, resume, cancel. All need the right to act (`exporter.web.authorization`)."""

import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from actions.model.errors import Refused
from actions.store.database import StoreUnavailable
from exporter.text.units import format_time
from exporter.web.authorization import actor_with_address, denial_response, request_denial
from exporter.web.context import WebContext
from exporter.web.responses import AsciiJsonResponse

Handler = Callable[[Request], Awaitable[Response]]
Answer = Callable[[Request], Response]


def reload_handler(front: WebContext) -> Handler:
    """Read the configuration again; 500 with the reasons when it stays as it was, as Prometheus answers."""

    def reload_configuration(_request: Request) -> Response:
        reasons = front.reload()
        if reasons:
            return PlainTextResponse("configuration not reloaded:\n" + "\n".join(reasons) + "\n", 500)
        return PlainTextResponse("configuration reloaded\n")

    return _require_permission(front, reload_configuration)


def pause_handler(front: WebContext) -> Handler:
    """Stop every action, also after a restart; answers after a second at most, with what is still finishing."""

    def pause_actions(request: Request) -> Response:
        why = front.pause(f"by {actor_with_address(request, front.act_right())} at {format_time(time.time())}")
        finishing = [{"run": one.id, "database": one.database, "action": one.action} for one in front.finishing()]
        return AsciiJsonResponse({"paused": True, "why": why, "finishing": finishing})

    return _require_permission(front, pause_actions)


def cancel_handler(front: WebContext) -> Handler:
    """End one run: at once while it waits, else at its next safe point. 404 unknown, 409 ended already."""

    def cancel_run(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        try:
            found = front.cancel(run_id, actor_with_address(request, front.act_right()))
        except (KeyError, OverflowError):  # no number of ours is longer than 64 bits
            return AsciiJsonResponse({"error": f"there is no run {run_id}"}, 404)
        except Refused as error:
            return AsciiJsonResponse({"error": error.message_with_next_step()}, 409)
        return AsciiJsonResponse({"run": found.id, "state": found.state, "outcome": found.outcome}, 202)

    return _require_permission(front, cancel_run)


def resume_handler(front: WebContext) -> Handler:
    """Let actions start again."""

    def resume_actions(_request: Request) -> Response:
        front.resume()
        return AsciiJsonResponse({"paused": False})

    return _require_permission(front, resume_actions)


def _require_permission(front: WebContext, answer: Answer) -> Handler:
    async def check_and_answer(request: Request) -> Response:
        if (no := request_denial(request, front.act_right())) is not None:
            return denial_response(no)
        try:
            return await run_in_threadpool(answer, request)
        except StoreUnavailable as error:
            return AsciiJsonResponse({"error": str(error)}, 503)

    return check_and_answer
