"""`/api/v1`: what the page shows, as JSON, and what a person may ask for. docs/web.md documents the fields."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from actions.model.errors import Refused
from actions.model.request import Option
from actions.store.database import StoreUnavailable
from exporter.status.dry_runs import TooMany
from exporter.status.operations import Operations, UnknownDatabase, Wish
from exporter.text.run_fields import as_fields
from exporter.web.authorization import denied, refusal, who
from exporter.web.context import Front
from exporter.web.request_body import TooLarge, TooSlow, read_body
from exporter.web.responses import AsJson
from exporter.web.run_number import RUN_NUMBER
from exporter.web.sse import events
from exporter.web.webhook_payload import BadPayload, strict_json

Handler = Callable[[Request], Awaitable[Response]]
MOST_RUNS = 500
# What a person did wrong, or what stands in the way now.
REFUSED_CODES = {"unknown_action": 404, "at_the_machine": 403, "options": 400, "paused": 409, "waiting": 409}


class BadRequest(Exception):
    """A parameter or a body that cannot be meant; the message says why."""


def routes(front: Front) -> list[Route]:
    """All but the webhook and the controls."""
    operations = front.operations
    acting = "/api/v1/databases/{database:path}/actions/{action}"
    return [
        Route("/api/v1/databases", _read(operations, _databases), methods=["GET"]),
        Route("/api/v1/runs", _read(operations, _runs), methods=["GET"]),
        Route("/api/v1/runs/{id:run}", _read(operations, _run), methods=["GET"]),
        Route("/api/v1/events", events(front), methods=["GET"]),
        Route(acting, _ask(front), methods=["POST"]),
    ]


def failure(error: Exception) -> Response:
    """The answer that an error of an operation deserves."""
    match error:
        case Refused():
            said = {"error": str(error), "reason": error.reason, "next_step": error.next_step}
            return AsJson(said, REFUSED_CODES.get(error.reason, 409))
        case UnknownDatabase() | KeyError():
            return AsJson({"error": str(error.args[0])}, 404)
        case TooMany():
            return AsJson({"error": "other dry runs are being made; ask again in a moment"}, 503)
        case StoreUnavailable():
            return AsJson({"error": str(error)}, 503)
        case TooLarge():
            return AsJson({"error": "the body is larger than 1 MiB"}, 413, {"Connection": "close"})
        case TooSlow():
            return AsJson({"error": "the body did not arrive within 5 s"}, 408, {"Connection": "close"})
    return AsJson({"error": str(error)}, 400)


FAILURES = (Refused, UnknownDatabase, KeyError, TooMany, StoreUnavailable, TooLarge, TooSlow, BadPayload, BadRequest,
            ClientDisconnect)  # fmt: skip


def _read(operations: Operations, answer: Callable[[Operations, Request], object]) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            shown = await run_in_threadpool(answer, operations, request)
            return AsJson(shown, headers={"Cache-Control": "no-store"})
        except FAILURES as error:
            return failure(error)

    return handle


def _databases(operations: Operations, _request: Request) -> object:
    return {"databases": [dataclasses.asdict(one) for one in operations.databases()]}


def _runs(operations: Operations, request: Request) -> object:
    limit = min(MOST_RUNS, _number(request, "limit") or 50)
    words = {name: request.query_params.get(name, "") for name in ("database", "action", "outcome")}
    found = operations.runs(limit, before=_number(request, "before"), **words)
    return {"runs": [as_fields(run) for run in found], "next_before": found[-1].id if len(found) == limit else None}


def _run(operations: Operations, request: Request) -> object:
    return as_fields(operations.run(int(request.path_params["id"])))


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (RUN_NUMBER.fullmatch(text)):
        raise BadRequest(f"{name} is a whole number from 1")
    return int(text)


def _ask(front: Front) -> Handler:
    async def handle(request: Request) -> Response:
        if (no := denied(request, front.act_right())) is not None:
            return refusal(no)
        try:
            options, dry_run = _wanted(await read_body(request))
            asked_by = who(request, front.act_right())
            wish = Wish(request.path_params["database"], request.path_params["action"], options, asked_by)
            if dry_run:
                planned = await run_in_threadpool(front.operations.plan, wish)
                return AsJson({"dry_run": True, "message": planned.message, **planned.figures})
            recorded = await run_in_threadpool(front.operations.ask, wish)
        except FAILURES as error:
            return failure(error)
        return AsJson({"run": recorded.run_id, "new": recorded.new}, 202)

    return handle


def _wanted(body: bytes) -> tuple[Mapping[str, Option], bool]:
    """The options, and whether only to plan. Raises BadPayload, BadRequest."""
    given = strict_json(body) if body.strip() else {}
    if not isinstance(given, dict):
        raise BadRequest("the body is a JSON object: the options by name, and dry_run")
    dry_run = given.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise BadRequest("dry_run is true or false")
    strange = [name for name, value in given.items() if not isinstance(value, str | int | float | bool | None)]
    if strange:
        raise BadRequest(f"{strange[0]}: an option is a text, a number, true, false or null")
    return given, dry_run
