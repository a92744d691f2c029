"""May this request act? By a token of a private file, a user with a password, or a client certificate.

Comparing tells nothing about a token by time.
"""

import hmac
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from exporter.web.context import ActRight
from exporter.web.identity import Identity, identity_of
from exporter.web.responses import AsJson


@dataclass(frozen=True, slots=True)
class Denied:
    """Why not: the HTTP status and a sentence."""

    status: int
    reason: str


def actor(identity: Identity, right: ActRight) -> str:
    """As whom they may act, in words for history; empty when they may not. Pure."""
    if not right.enabled:
        return ""
    if identity.token is not None and _known(identity.token, right.token_digests):
        return "a token"
    if identity.user in right.users:
        return f"user {identity.user}"
    name = next((name for name in identity.names if name in right.client_sans), "")
    return f"certificate {name}" if name else ""


def refused(identity: Identity, right: ActRight) -> Denied | None:
    """None when they may act. Pure."""
    if not right.enabled:
        return Denied(403, "acting is disabled; set actions.enabled: true in the configuration")
    if not (right.token_digests or right.users or right.client_sans):
        return Denied(403, "nobody is allowed to act; name a private file in actions.allow.token_files")
    if actor(identity, right):
        return None
    if identity.token is not None:
        return Denied(401, "this bearer token is not valid")
    if identity.user:
        return Denied(403, f"user {identity.user} may read, not act; actions.allow.users says who may")
    if identity.names:
        return Denied(403, f"{identity.names[0]} may read, not act; actions.allow.client_sans says who may")
    return Denied(401, "no bearer token given")


def denied(request: Request, right: ActRight) -> Denied | None:
    """None when the request comes from one who may act."""
    return refused(identity_of(request), right)


def refusal(no: Denied) -> Response:
    """The answer to who may not."""
    headers = {"WWW-Authenticate": 'Bearer realm="queuekeeper"'} if no.status == 401 else {}
    # what is left of an unread body must not be taken for the next request
    return AsJson({"error": no.reason}, no.status, {**headers, "Connection": "close"})


def who(request: Request, right: ActRight) -> str:
    """Who asks, for history and the log."""
    label = actor(identity_of(request), right) or "somebody"
    return f"{label} from {request.client.host if request.client is not None else 'a local socket'}"


def _known(offered: bytes, valid: tuple[bytes, ...]) -> bool:
    found = [hmac.compare_digest(offered, one) for one in valid]  # all are compared, whichever fits
    return any(found)
