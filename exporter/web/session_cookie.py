"""The cookie that carries the secret of a session.

Over https its name starts with a prefix that browsers reserve, so that an attacker who answers the viewer over http, or who
owns a neighbouring host name, cannot plant a session of theirs (https://www.rfc-editor.org/rfc/rfc6265#section-8.6,
https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Set-Cookie#cookie_prefixes).
"""

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from exporter.web.address import Mount
from exporter.web.sessions import COOKIE_NAME, LIFETIME_LIMIT


def session_secret(scope: Scope, mount: Mount) -> str:
    """Return the secret in the cookie of a request; empty when there is none."""
    try:
        cookie = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(_cookie_name(scope, mount))
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""


def set_session_cookie(answer: Response, secret: str, scope: Scope, mount: Mount) -> None:
    """Set the cookie: sent to this server only, hidden from scripts, and not sent with requests that another site starts."""
    answer.set_cookie(
        _cookie_name(scope, mount),
        secret,
        max_age=int(LIFETIME_LIMIT),
        path=mount.prefix or "/",
        secure=_is_secure(scope, mount),
        httponly=True,
        samesite="strict",
    )


def delete_session_cookie(answer: Response, scope: Scope, mount: Mount) -> None:
    """Delete the cookie after a log out."""
    answer.delete_cookie(
        _cookie_name(scope, mount),
        path=mount.prefix or "/",
        secure=_is_secure(scope, mount),
        httponly=True,
        samesite="strict",
    )


def _cookie_name(scope: Scope, mount: Mount) -> str:
    if not _is_secure(scope, mount):
        return COOKIE_NAME
    return f"__Secure-{COOKIE_NAME}" if mount.prefix else f"__Host-{COOKIE_NAME}"


def _is_secure(scope: Scope, mount: Mount) -> bool:
    return scope["scheme"] == "https" or mount.secure
