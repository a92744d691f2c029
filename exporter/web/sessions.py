"""Who logged in on the page. Kept in memory only, and short: a restart ends them all.

A session stands for the credential it was begun with: when the token or the password is no longer valid, nor is it.
"""

import hmac
import secrets
from dataclasses import dataclass, replace

from exporter.config.tokens import token_digest

IDLE_LIMIT = 15 * 60.0
LIFETIME_LIMIT = 2 * 3600.0
MAX_SESSIONS = 64
COOKIE_NAME = "queuekeeper_session"


@dataclass(frozen=True, slots=True)
class Session:
    """`token`: the digest of the token that began it; or `user` and the `hashed` password that was valid then."""

    begun: float
    seen: float
    token: bytes | None = None
    user: str = ""
    hashed: str = ""


class SessionStore:
    """Used from the event loop only. Times are of a clock that does not jump, in seconds."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[bytes, Session] = {}

    def begin_session(self, now: float, *, token: bytes | None = None, user: str = "", hashed: str = "") -> str:
        """A new secret for the cookie. Never the visitor's own: one that was planted on them opens nothing."""
        self._drop_expired(now)
        if len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].seen)]
        secret = secrets.token_urlsafe(32)
        self._sessions[token_digest(secret.encode())] = Session(now, now, token, user, hashed)
        return secret

    def find_session(self, secret: str, now: float, *, used: bool = True) -> Session | None:
        """The session; None when there is none, or not any more. `used`: its person did something, so it goes on."""
        key = token_digest(secret.encode("utf-8", "replace"))
        found = self._sessions.get(key)
        if found is None:
            return None
        if _is_expired(found, now):
            del self._sessions[key]
            return None
        if used:
            self._sessions[key] = found = replace(found, seen=now)
        return found

    def end_session(self, secret: str) -> None:
        """Log out."""
        self._sessions.pop(token_digest(secret.encode("utf-8", "replace")), None)

    def form_key(self, *whose: str) -> str:
        """What a form must send back to be from a page that we gave to this visitor: nobody else can make or read it.

        Another one each time: a secret that stays the same in compressed pages can be guessed by their lengths (BREACH).
        """
        once = secrets.token_hex(8)
        return f"{once}.{self._sign_parts(once, *whose)}"

    def is_form_key(self, offered: str, *whose: str) -> bool:
        """Whether it is one of this visitor's."""
        once, _, signed = offered.partition(".")
        return hmac.compare_digest(signed.encode("utf-8", "replace"), self._sign_parts(once, *whose).encode())

    def _sign_parts(self, *parts: str) -> str:
        return hmac.new(self._secret, "\0".join(parts).encode("utf-8", "replace"), "sha256").hexdigest()

    def _drop_expired(self, now: float) -> None:
        self._sessions = {key: one for key, one in self._sessions.items() if not _is_expired(one, now)}


def _is_expired(session: Session, now: float) -> bool:
    return now - session.seen > IDLE_LIMIT or now - session.begun > LIFETIME_LIMIT
