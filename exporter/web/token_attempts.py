"""Wrong tokens: a few from one address are answered as they deserve, what comes after them waits.

A token that is right is never kept waiting, whoever else is wrong from the same address: an Alertmanager beside somebody who
guesses, or behind the same proxy, goes on. Tokens are too long to be guessed; what is bounded is the work and the log.
"""

import math
import time

from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from exporter.web.authorization import actor
from exporter.web.context import ActRight
from exporter.web.identity import Identity, offered_token
from exporter.web.log_limit import Refusals
from exporter.web.rate_limit import Failures

MOST_FAILURES, WITHIN = 20, 60.0


class Guesses:
    """Of one server; used from its event loop only."""

    def __init__(self) -> None:
        self._failures = Failures(MOST_FAILURES, WITHIN)
        self._refusals = Refusals("wrong tokens")

    def turned_away(self, scope: Scope, identity: Identity, right: ActRight) -> Response | None:
        """The answer to one wrong token too many. Each before it is counted, and answered by whoever asks for the right."""
        wrong = offered_token(scope["headers"]) is not None and not actor(identity, right)
        if not (wrong and right.enabled and right.token_digests):
            return None
        address, now = address_of(scope), time.monotonic()
        if wait := self._failures.wait(address, now):
            return too_many(wait)
        if self._failures.note(address, now):
            self._refusals.tell(429, f"{MOST_FAILURES} within {WITHIN:.0f} s, so this address must wait", address, now)
        return None


def too_many(wait: float) -> Response:
    """What is left of an unread body must not be taken for the next request. `wait` in seconds."""
    return PlainTextResponse("Too Many Requests\n", 429, {"Retry-After": f"{math.ceil(wait)}", "Connection": "close"})


def address_of(scope: Scope) -> str:
    """Whose failures they are; empty for a local socket."""
    client = scope.get("client")
    return client[0] if client else ""
