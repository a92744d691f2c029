"""Decides whether a request may act: by a token of a private file, a user with a password, or a client certificate.

Tokens are compared in constant time.
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
    """Why a request may not act: the HTTP status and a sentence."""

    status: int
    reason: str


def actor_name(identity: Identity, right: ActingRights) -> str:
    """Return the actor's name as the history shows it; empty for an identity that may not act. Pure."""
    if not right.enabled:
        return ""
    if identity.token is not None and _is_valid_token(identity.token, right.token_digests):
        name = right.token_names.get(identity.token)
        return f"token {name}" if name else "a token"
    if identity.user in right.users:
        return f"user {identity.user}"
    name = next((name for name in identity.names if name in right.client_sans), "")
    return f"certificate {name}" if name else ""


def identity_denial(identity: Identity, right: ActingRights) -> ActDenial | None:
    """Return why an identity may not act; None when it may. Pure."""
    if not right.enabled:
        return ActDenial(403, "acting is disabled; set actions.enabled: true in the configuration")
    if not (right.token_digests or right.users or right.client_sans):
        return ActDenial(403, "no token, user or certificate may act; name a private file in actions.allow.token_files")
    if actor_name(identity, right):
        return None
    if identity.token is not None:
        return ActDenial(401, "this bearer token is not valid")
    if identity.user:
        return ActDenial(403, f"user {identity.user} may read but not act; actions.allow.users lists who may act")
    if identity.names:
        return ActDenial(403, f"{identity.names[0]} may read but not act; actions.allow.client_sans lists who may act")
    return ActDenial(401, "no bearer token given")


def request_denial(request: Request, right: ActingRights) -> ActDenial | None:
    """Return why the client of a request may not act; None when it may."""
    return identity_denial(identity_of(request), right)


def denial_response(denial: ActDenial) -> Response:
    """Return the response to a request that may not act."""
    headers = {"WWW-Authenticate": 'Bearer realm="queuekeeper"'} if denial.status == 401 else {}
    # the rest of an unread body must not be read as the next request
    return AsciiJsonResponse({"error": denial.reason}, denial.status, {**headers, "Connection": "close"})


def actor_with_address(request: Request, right: ActingRights) -> str:
    """Return the actor and their address, for the history and the log."""
    label = actor_name(identity_of(request), right) or "an unnamed client"
    return f"{label} from {request.client.host if request.client is not None else 'a local socket'}"


def _is_valid_token(offered: bytes, valid: tuple[bytes, ...]) -> bool:
    matches = [hmac.compare_digest(offered, token) for token in valid]  # compares all, so that time reveals nothing
    return any(matches)
