"""`POST /api/v1/alerts`: Alertmanager's webhook. Stored first, answered in milliseconds, done later.

Alertmanager retries 5xx and network errors, and tries every other non-2xx again at each group interval: a decision
that is stored is answered 202, whatever it is.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from actions.store.database import StoreUnavailable
from exporter.log import event
from exporter.web.authorization import denied
from exporter.web.context import Front
from exporter.web.log_limit import Refusals
from exporter.web.request_body import TooLarge, TooSlow, read_body
from exporter.web.responses import AsJson
from exporter.web.webhook_payload import BadPayload, parse

LOG = logging.getLogger(__name__)


def endpoint(front: Front) -> Callable[[Request], Awaitable[Response]]:
    """The handler; every answer is counted."""

    refusals = Refusals()

    async def receive(request: Request) -> Response:
        answer = await _answer(front, request)
        front.answered(answer.status_code)
        if answer.status_code != 202:
            reason = json.loads(bytes(answer.body))["error"]
            peer = request.client.host if request.client is not None else ""
            refusals.tell(answer.status_code, reason, peer, time.monotonic())
        return answer

    return receive


async def _answer(front: Front, request: Request) -> Response:
    if (no := denied(request, front.act_right())) is not None:
        return _refused(no.status, no.reason)
    try:
        delivery = await run_in_threadpool(parse, await read_body(request))
    except TooLarge:
        return _refused(413, "the body is larger than 1 MiB; set max_alerts in Alertmanager's webhook_configs")
    except TooSlow:
        return _refused(408, "the body did not arrive within 5 s")
    except BadPayload as error:
        return _refused(400, str(error))
    except ClientDisconnect:
        return _refused(400, "the client went away")
    if left_out := delivery.truncated:
        event(LOG, logging.WARNING, "the sender left alerts out", truncated=left_out, next_step="raise max_alerts")
    try:
        receipt = await run_in_threadpool(front.receive, delivery)
    except StoreUnavailable as error:
        return _refused(503, str(error))
    decisions = [{"decision": d.decision, "database": d.database, "run": d.run_id} for d in receipt.decisions]
    return AsJson({"runs": list(receipt.run_ids), "decisions": decisions}, 202)


def _refused(status: int, reason: str) -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="queuekeeper"'} if status == 401 else {}
    if status in (401, 403, 408, 413):
        headers["Connection"] = "close"  # what is left of an unread body must not be taken for the next request
    return AsJson({"error": reason}, status, headers)
