"""The proved identity of a client. It gives no right by itself: `exporter.web.authorization` decides that."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request

from exporter.config.tokens import token_digest

RawHeaders = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client proved: a user with a valid password, the names of its certificate, the digest of the token it sent.

    `session` is the secret of the session where the client logged in on the page. The token is not checked yet.
    """

    user: str = ""
    names: tuple[str, ...] = ()
    token: bytes | None = None
    session: str = ""


def identity_of(request: Request) -> Identity:
    """Return the identity that the middleware stored for this request."""
    identity = request.scope.get("state", {}).get("identity")
    return identity if isinstance(identity, Identity) else Identity()


def offered_token(headers: RawHeaders) -> bytes | None:
    """Return the digest of the bearer token; None without one, or with more than one Authorization header."""
    scheme, value = _authorization_header(headers)
    return token_digest(value) if scheme == b"bearer" and value else None


def offered_password(headers: RawHeaders) -> tuple[str, str] | None:
    """Return the name and password of basic authentication (https://www.rfc-editor.org/rfc/rfc7617), as UTF-8."""
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
