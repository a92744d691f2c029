"""Limits wrong tokens: the first ones of an address are answered 401 or 403, later ones 429 until it has waited.

A valid token is always accepted, also from an address that sent wrong ones: an Alertmanager on the same host as an attacker, or
behind the same proxy, keeps working. Tokens are too long to be guessed; the limit bounds the work and the log.
"""

import math
import time

from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from exporter.web.authorization import actor_name
from exporter.web.context import ActingRights
from exporter.web.identity import Identity, offered_token
from exporter.web.log_limit import RejectionLog
from exporter.web.rate_limit import FailureLimiter

MAX_TOKEN_FAILURES, TOKEN_FAILURE_WINDOW = 20, 60.0


class TokenAttempts:
    """Counts the wrong tokens of one server. Use it from the server's event loop only."""

    def __init__(self) -> None:
        self._failures = FailureLimiter(MAX_TOKEN_FAILURES, TOKEN_FAILURE_WINDOW)
        self._rejections = RejectionLog("wrong tokens")

    def check_attempt(self, scope: Scope, identity: Identity, right: ActingRights) -> Response | None:
        """Count a wrong token; return the response once its address must wait, None before that."""
        wrong = offered_token(scope["headers"]) is not None and not actor_name(identity, right)
        if not (wrong and right.enabled and right.token_digests):
            return None
        address, now = client_address(scope), time.monotonic()
        if wait := self._failures.wait_seconds(address, now):
            return too_many_requests(wait)
        if self._failures.record_failure(address, now):
            self._rejections.log_rejection(
                429,
                f"{MAX_TOKEN_FAILURES} within {TOKEN_FAILURE_WINDOW:.0f} s, so this address must wait",
                address,
                now,
            )
        return None


def too_many_requests(wait: float) -> Response:
    """Return a 429 response that tells to wait `wait` seconds.

    It closes the connection: the rest of an unread body must not be read as the next request.
    """
    return PlainTextResponse("Too Many Requests\n", 429, {"Retry-After": f"{math.ceil(wait)}", "Connection": "close"})


def client_address(scope: Scope) -> str:
    """Return the address that failures are counted for; empty for a local socket."""
    client = scope.get("client")
    return client[0] if client else ""
