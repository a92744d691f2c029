"""The cookie that a session's secret travels in.

Over https its name begins with a word that browsers reserve: whoever speaks to the visitor over http, or owns a neighbouring
name, cannot plant a session of theirs (https://www.rfc-editor.org/rfc/rfc6265#section-8.6,
https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Set-Cookie#cookie_prefixes).
"""

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from exporter.web.mount import Mount
from exporter.web.sessions import COOKIE_NAME, LIFETIME_LIMIT


def session_secret(scope: Scope, mount: Mount) -> str:
    """What the cookie of a request holds; empty when there is none."""
    try:
        found = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(_cookie_name(scope, mount))
    except CookieError:
        return ""
    return found.value if found is not None else ""


def set_session_cookie(answer: Response, secret: str, scope: Scope, mount: Mount) -> None:
    """To us only, by no script, and with nothing that another site begins."""
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
    """After a log out."""
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
