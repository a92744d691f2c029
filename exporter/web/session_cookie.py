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
from exporter.web.sessions import COOKIE, LONGEST


def secret_in(scope: Scope, mount: Mount) -> str:
    """What the cookie of a request holds; empty when there is none."""
    try:
        found = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(_name(scope, mount))
    except CookieError:
        return ""
    return found.value if found is not None else ""


def give(answer: Response, secret: str, scope: Scope, mount: Mount) -> None:
    """To us only, by no script, and with nothing that another site begins."""
    answer.set_cookie(
        _name(scope, mount),
        secret,
        max_age=int(LONGEST),
        path=mount.prefix or "/",
        secure=_is_secure(scope, mount),
        httponly=True,
        samesite="strict",
    )


def take_away(answer: Response, scope: Scope, mount: Mount) -> None:
    """After a log out."""
    answer.delete_cookie(
        _name(scope, mount),
        path=mount.prefix or "/",
        secure=_is_secure(scope, mount),
        httponly=True,
        samesite="strict",
    )


def _name(scope: Scope, mount: Mount) -> str:
    if not _is_secure(scope, mount):
        return COOKIE
    return f"__Secure-{COOKIE}" if mount.prefix else f"__Host-{COOKIE}"


def _is_secure(scope: Scope, mount: Mount) -> bool:
    return scope["scheme"] == "https" or mount.secure
