"""May this request act? By a token of a private file, a user with a password, or a client certificate.

Comparing tells nothing about a token by time.
"""

import hmac
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from exporter.web.context import ActingRights
from exporter.web.identity import Identity, identity_of
from exporter.web.responses import AsciiJsonResponse


@dataclass(frozen=True, slots=True)
class ActDenial:
    """Why not: the HTTP status and a sentence."""

    status: int
    reason: str


def actor_name(identity: Identity, right: ActingRights) -> str:
    """As whom they may act, in words for history; empty when they may not. Pure."""
    if not right.enabled:
        return ""
    if identity.token is not None and _is_valid_token(identity.token, right.token_digests):
        return "a token"
    if identity.user in right.users:
        return f"user {identity.user}"
    name = next((name for name in identity.names if name in right.client_sans), "")
    return f"certificate {name}" if name else ""


def identity_denial(identity: Identity, right: ActingRights) -> ActDenial | None:
    """None when they may act. Pure."""
    if not right.enabled:
        return ActDenial(403, "acting is disabled; set actions.enabled: true in the configuration")
    if not (right.token_digests or right.users or right.client_sans):
        return ActDenial(403, "nobody is allowed to act; name a private file in actions.allow.token_files")
    if actor_name(identity, right):
        return None
    if identity.token is not None:
        return ActDenial(401, "this bearer token is not valid")
    if identity.user:
        return ActDenial(403, f"user {identity.user} may read, not act; actions.allow.users says who may")
    if identity.names:
        return ActDenial(403, f"{identity.names[0]} may read, not act; actions.allow.client_sans says who may")
    return ActDenial(401, "no bearer token given")


def request_denial(request: Request, right: ActingRights) -> ActDenial | None:
    """None when the request comes from one who may act."""
    return identity_denial(identity_of(request), right)


def denial_response(no: ActDenial) -> Response:
    """The answer to who may not."""
    headers = {"WWW-Authenticate": 'Bearer realm="queuekeeper"'} if no.status == 401 else {}
    # what is left of an unread body must not be taken for the next request
    return AsciiJsonResponse({"error": no.reason}, no.status, {**headers, "Connection": "close"})


def actor_with_address(request: Request, right: ActingRights) -> str:
    """Who asks, for history and the log."""
    label = actor_name(identity_of(request), right) or "somebody"
    return f"{label} from {request.client.host if request.client is not None else 'a local socket'}"


def _is_valid_token(offered: bytes, valid: tuple[bytes, ...]) -> bool:
    found = [hmac.compare_digest(offered, one) for one in valid]  # all are compared, whichever fits
    return any(found)
