"""`POST /api/v1/alerts`: Alertmanager's webhook. A delivery is stored first and answered in milliseconds; runs come later.

Alertmanager retries 5xx and network errors, and tries every other non-2xx answer again at each group interval, so every
decision that is stored is answered 202, also one against a run.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from actions.store.database import StoreUnavailable
from exporter.log import log_event
from exporter.web.authorization import request_denial
from exporter.web.context import WebContext
from exporter.web.log_limit import RejectionLog
from exporter.web.request_body import BodyTooLarge, BodyTooSlow, read_body
from exporter.web.responses import AsciiJsonResponse
from exporter.web.webhook_payload import InvalidPayload, parse_webhook_delivery

LOG = logging.getLogger(__name__)


def webhook_endpoint(context: WebContext) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler, which counts every answer and logs every rejection."""

    rejections = RejectionLog()

    async def receive_and_count(request: Request) -> Response:
        answer = await _handle_delivery(context, request)
        context.count_answer(answer.status_code)
        if answer.status_code != 202:
            reason = json.loads(bytes(answer.body))["error"]
            peer = request.client.host if request.client is not None else ""
            rejections.log_rejection(answer.status_code, reason, peer, time.monotonic())
        return answer

    return receive_and_count


async def _handle_delivery(context: WebContext, request: Request) -> Response:
    if (denial := request_denial(request, context.acting_rights())) is not None:
        return _rejection_response(denial.status, denial.reason)
    try:
        delivery = await run_in_threadpool(parse_webhook_delivery, await read_body(request))
    except BodyTooLarge:
        return _rejection_response(
            413, "the body is larger than 1 MiB; set max_alerts in Alertmanager's webhook_configs"
        )
    except BodyTooSlow:
        return _rejection_response(408, "the body did not arrive within 5 s")
    except InvalidPayload as error:
        return _rejection_response(400, str(error))
    except ClientDisconnect:
        return _rejection_response(400, "the client went away")
    if left_out := delivery.truncated:
        log_event(LOG, logging.WARNING, "the sender left alerts out", truncated=left_out, next_step="raise max_alerts")
    try:
        receipt = await run_in_threadpool(context.receive_delivery, delivery)
    except StoreUnavailable as error:
        return _rejection_response(503, str(error))
    decisions = [{"decision": d.decision, "database": d.database, "run": d.run_id} for d in receipt.decisions]
    return AsciiJsonResponse({"runs": list(receipt.run_ids), "decisions": decisions}, 202)


def _rejection_response(status: int, reason: str) -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="queuekeeper"'} if status == 401 else {}
    if status in (401, 403, 408, 413):
        headers["Connection"] = "close"  # the rest of an unread body must not be read as the next request
    return AsciiJsonResponse({"error": reason}, status, headers)
