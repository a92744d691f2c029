"""Who sent a request, as far as they proved it. Proving it gives no right yet: `exporter.web.authorization` decides."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request

from exporter.config.tokens import token_digest

RawHeaders = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Identity:
    """`user`: whose password was right; `names`: those of a verified client certificate; `token`: the digest of one offered.

    `session`: it was proved by logging in on the page.
    """

    user: str = ""
    names: tuple[str, ...] = ()
    token: bytes | None = None
    session: str = ""


def identity_of(request: Request) -> Identity:
    """What the gate found out about this request."""
    found = request.scope.get("state", {}).get("identity")
    return found if isinstance(found, Identity) else Identity()


def offered_token(headers: RawHeaders) -> bytes | None:
    """The digest of the bearer token, when the request has one and no second authorization beside it."""
    scheme, value = _authorization_header(headers)
    return token_digest(value) if scheme == b"bearer" and value else None


def offered_password(headers: RawHeaders) -> tuple[str, str] | None:
    """Name and password of basic authentication (https://www.rfc-editor.org/rfc/rfc7617), as UTF-8."""
    scheme, value = _authorization_header(headers)
    if scheme != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None


def _authorization_header(headers: RawHeaders) -> tuple[bytes, bytes]:
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return b"", b""
    scheme, _, value = given[0].partition(b" ")
    return scheme.lower(), value.strip()
