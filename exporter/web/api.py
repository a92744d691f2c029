"""`/api/v1`: what the page shows as JSON, and the request of a run. docs/web.md documents the fields."""

import dataclasses
from collections.abc import Callable, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from actions.model.errors import Refused
from actions.model.request import Option
from actions.store.database import StoreUnavailable
from exporter.status.dry_runs import TooManyDryRuns
from exporter.status.operations import Operations, OperatorRequest, UnknownDatabase
from exporter.text.chain import pause_fields
from exporter.text.run import run_fields
from exporter.web.authorization import actor_with_address, denial_response, request_denial
from exporter.web.context import WebContext
from exporter.web.request_body import BodyTooLarge, BodyTooSlow, read_body
from exporter.web.responses import RUN_NUMBER, AsciiJsonResponse, Handler
from exporter.web.sse import events_handler
from exporter.web.webhook_payload import InvalidPayload, parse_strict_json

MAX_RUNS_PER_ANSWER = 500
# HTTP status by the reason of a rejection: a wrong request, or a state that prevents it now.
STATUS_BY_REASON = {"unknown_action": 404, "at_the_machine": 403, "options": 400, "paused": 409, "waiting": 409}


class BadRequest(Exception):
    """A parameter or a body is invalid; the message says why."""


def api_routes(context: WebContext) -> list[Route]:
    """Return the routes of the API except the webhook and the control of the agent."""
    operations = context.operations
    acting = "/api/v1/databases/{database:path}/actions/{action}"
    return [
        Route("/api/v1/databases", _read_handler(operations, _list_databases), methods=["GET"]),
        Route("/api/v1/runs", _read_handler(operations, _list_runs), methods=["GET"]),
        Route("/api/v1/runs/{id:run}", _read_handler(operations, _show_run), methods=["GET"]),
        Route("/api/v1/pauses", _read_handler(operations, _list_pauses), methods=["GET"]),
        Route("/api/v1/events", events_handler(context), methods=["GET"]),
        Route(acting, _action_request_handler(context), methods=["POST"]),
    ]


def error_response(error: Exception) -> Response:
    """Return the response for an error of an operation."""
    match error:
        case Refused():
            body = {"error": str(error), "reason": error.reason, "next_step": error.next_step}
            return AsciiJsonResponse(body, STATUS_BY_REASON.get(error.reason, 409))
        case UnknownDatabase() | KeyError():
            return AsciiJsonResponse({"error": str(error.args[0])}, 404)
        case TooManyDryRuns():
            return AsciiJsonResponse({"error": "too many dry runs are running; try again in a moment"}, 503)
        case StoreUnavailable():
            return AsciiJsonResponse({"error": str(error)}, 503)
        case BodyTooLarge():
            return AsciiJsonResponse({"error": "the body is larger than 1 MiB"}, 413, {"Connection": "close"})
        case BodyTooSlow():
            return AsciiJsonResponse({"error": "the body did not arrive within 5 s"}, 408, {"Connection": "close"})
    return AsciiJsonResponse({"error": str(error)}, 400)


EXPECTED_ERRORS = (
    Refused,
    UnknownDatabase,
    KeyError,
    TooManyDryRuns,
    StoreUnavailable,
    BodyTooLarge,
    BodyTooSlow,
    InvalidPayload,
    BadRequest,
    ClientDisconnect,
)


def _read_handler(operations: Operations, answer: Callable[[Operations, Request], object]) -> Handler:
    async def answer_read(request: Request) -> Response:
        try:
            content = await run_in_threadpool(answer, operations, request)
            return AsciiJsonResponse(content, headers={"Cache-Control": "no-store"})
        except EXPECTED_ERRORS as error:
            return error_response(error)

    return answer_read


def _list_databases(operations: Operations, _request: Request) -> object:
    return {"databases": [dataclasses.asdict(status) for status in operations.list_database_statuses()]}


def _list_runs(operations: Operations, request: Request) -> object:
    limit = min(MAX_RUNS_PER_ANSWER, _parse_number_parameter(request, "limit") or 50)
    words = {name: request.query_params.get(name, "") for name in ("database", "action", "outcome")}
    runs = operations.list_runs(limit, before=_parse_number_parameter(request, "before"), **words)
    return {"runs": [run_fields(run) for run in runs], "next_before": runs[-1].id if len(runs) == limit else None}


def _show_run(operations: Operations, request: Request) -> object:
    return run_fields(operations.find_run(int(request.path_params["id"])))


def _list_pauses(operations: Operations, request: Request) -> object:
    limit = min(MAX_RUNS_PER_ANSWER, _parse_number_parameter(request, "limit") or 50)
    return {"pauses": [pause_fields(entry) for entry in operations.list_pauses(limit)]}


def _parse_number_parameter(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (RUN_NUMBER.fullmatch(text)):
        raise BadRequest(f"{name} must be a whole number from 1")
    return int(text)


def _action_request_handler(context: WebContext) -> Handler:
    async def plan_or_request(request: Request) -> Response:
        if (denial := request_denial(request, context.acting_rights())) is not None:
            return denial_response(denial)
        try:
            options, dry_run = _parse_action_body(await read_body(request))
            actor = actor_with_address(request, context.acting_rights())
            wanted = OperatorRequest(request.path_params["database"], request.path_params["action"], options, actor)
            if dry_run:
                planned = await run_in_threadpool(context.operations.plan, wanted)
                return AsciiJsonResponse({"dry_run": True, "message": planned.message, **planned.figures})
            recorded = await run_in_threadpool(context.operations.request_run, wanted)
        except EXPECTED_ERRORS as error:
            return error_response(error)
        return AsciiJsonResponse({"run": recorded.run_id, "new": recorded.new}, 202)

    return plan_or_request


def _parse_action_body(body: bytes) -> tuple[Mapping[str, Option], bool]:
    """Return the options and whether the request is a dry run. Raises InvalidPayload, BadRequest."""
    given = parse_strict_json(body) if body.strip() else {}
    if not isinstance(given, dict):
        raise BadRequest("the body must be a JSON object of the options by name, and dry_run")
    dry_run = given.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise BadRequest("dry_run must be true or false")
    unsupported = [name for name, value in given.items() if not isinstance(value, str | int | float | bool | None)]
    if unsupported:
        raise BadRequest(f"{unsupported[0]}: an option must be a text, a number, true, false or null")
    return given, dry_run
