"""Wrong tokens: a few from one address are answered as they deserve, what comes after them waits.

A token that is right is never kept waiting, whoever else is wrong from the same address: an Alertmanager beside somebody who
guesses, or behind the same proxy, goes on. Tokens are too long to be guessed; what is bounded is the work and the log.
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
    """Of one server; used from its event loop only."""

    def __init__(self) -> None:
        self._failures = FailureLimiter(MAX_TOKEN_FAILURES, TOKEN_FAILURE_WINDOW)
        self._refusals = RejectionLog("wrong tokens")

    def check_attempt(self, scope: Scope, identity: Identity, right: ActingRights) -> Response | None:
        """The answer to one wrong token too many. Each before it is counted, and answered by whoever asks for the right."""
        wrong = offered_token(scope["headers"]) is not None and not actor_name(identity, right)
        if not (wrong and right.enabled and right.token_digests):
            return None
        address, now = client_address(scope), time.monotonic()
        if wait := self._failures.wait_seconds(address, now):
            return too_many_requests(wait)
        if self._failures.record_failure(address, now):
            self._refusals.log_rejection(
                429,
                f"{MAX_TOKEN_FAILURES} within {TOKEN_FAILURE_WINDOW:.0f} s, so this address must wait",
                address,
                now,
            )
        return None


def too_many_requests(wait: float) -> Response:
    """What is left of an unread body must not be taken for the next request. `wait` in seconds."""
    return PlainTextResponse("Too Many Requests\n", 429, {"Retry-After": f"{math.ceil(wait)}", "Connection": "close"})


def client_address(scope: Scope) -> str:
    """Whose failures they are; empty for a local socket."""
    client = scope.get("client")
    return client[0] if client else ""
