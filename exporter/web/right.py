"""May this request act? A bearer token from a private file; comparing tells nothing about it by time."""

import hmac
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from exporter.config.tokens import digest
from exporter.web.front import ActRight


@dataclass(frozen=True, slots=True)
class Denied:
    """Why not: the HTTP status and a sentence."""

    status: int
    reason: str


def denied(request: Request, right: ActRight) -> Denied | None:
    """None when the request carries a valid token and acting is enabled."""
    if not right.enabled:
        return Denied(403, "acting is disabled; set actions.enabled: true in the configuration")
    if not right.token_digests:
        return Denied(403, "nobody is allowed to act; name a private file in actions.allow.token_files")
    offered = _bearer(request)
    if offered is None:
        return Denied(401, "no bearer token given")
    if not _known(digest(offered), right.token_digests):
        return Denied(401, "this bearer token is not valid")
    return None


def refusal(no: Denied) -> Response:
    """The answer to who may not."""
    headers = {"WWW-Authenticate": 'Bearer realm="queuekeeper"'} if no.status == 401 else {}
    # what is left of an unread body must not be taken for the next request
    return JSONResponse({"error": no.reason}, no.status, {**headers, "Connection": "close"})


def who(request: Request) -> str:
    """Who asks, for history and the log."""
    return f"a token from {request.client.host if request.client is not None else 'a client'}"


def _bearer(request: Request) -> bytes | None:
    given = request.headers.getlist("authorization")
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(" ")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" and token.strip() else None


def _known(offered: bytes, valid: tuple[bytes, ...]) -> bool:
    found = [hmac.compare_digest(offered, one) for one in valid]  # all are compared, whichever fits
    return any(found)
