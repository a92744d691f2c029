"""Handlers that control the agent: reload, pause, resume, cancel. All need the right to act (`exporter.web.authorization`)."""

import logging
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from actions.model.errors import Refused
from actions.store.database import StoreUnavailable
from exporter.log import log_event
from exporter.web.authorization import actor_with_address, denial_response, request_denial
from exporter.web.context import WebContext
from exporter.web.responses import AsciiJsonResponse, Handler

LOG = logging.getLogger(__name__)

Answer = Callable[[Request], Response]


def reload_handler(context: WebContext) -> Handler:
    """Return the handler that reads the configuration again.

    Like Prometheus it answers 500 with the reasons when the configuration was rejected.
    """

    def reload_configuration(request: Request) -> Response:
        log_event(LOG, logging.INFO, "reload requested", by=actor_with_address(request, context.acting_rights()))
        reasons = context.reload()
        if reasons:
            return PlainTextResponse("configuration not reloaded:\n" + "\n".join(reasons) + "\n", 500)
        return PlainTextResponse("configuration reloaded\n")

    return _require_permission(context, reload_configuration)


def pause_handler(context: WebContext) -> Handler:
    """Return the handler that stops every action, also after a restart.

    It answers after a second at most, with the runs that have not stopped yet.
    """

    def pause_actions(request: Request) -> Response:
        actor = actor_with_address(request, context.acting_rights())
        why = context.operations.pause_actions(actor)
        runs = context.operations.finishing_runs()
        finishing = [{"run": run.id, "database": run.database, "action": run.action} for run in runs]
        return AsciiJsonResponse({"paused": True, "why": why, "finishing": finishing})

    return _require_permission(context, pause_actions)


def cancel_handler(context: WebContext) -> Handler:
    """Return the handler that ends one run: at once while it is pending, else at its next safe point.

    It answers 404 for an unknown run and 409 for one that has ended.
    """

    def cancel_run(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        try:
            run = context.operations.cancel_run(run_id, actor_with_address(request, context.acting_rights()))
        except (KeyError, OverflowError):  # the number of a run has at most 64 bits
            return AsciiJsonResponse({"error": f"there is no run {run_id}"}, 404)
        except Refused as error:
            return AsciiJsonResponse({"error": error.message_with_next_step()}, 409)
        return AsciiJsonResponse({"run": run.id, "state": run.state, "outcome": run.outcome}, 202)

    return _require_permission(context, cancel_run)


def resume_handler(context: WebContext) -> Handler:
    """Return the handler that lets actions start again."""

    def resume_actions(request: Request) -> Response:
        context.operations.resume_actions(actor_with_address(request, context.acting_rights()))
        return AsciiJsonResponse({"paused": False})

    return _require_permission(context, resume_actions)


def _require_permission(context: WebContext, answer: Answer) -> Handler:
    async def check_and_answer(request: Request) -> Response:
        if (denial := request_denial(request, context.acting_rights())) is not None:
            return denial_response(denial)
        try:
            return await run_in_threadpool(answer, request)
        except StoreUnavailable as error:
            return AsciiJsonResponse({"error": str(error)}, 503)

    return check_and_answer
