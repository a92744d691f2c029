"""The sessions of people who logged in on the page. They are in memory only and short: a restart ends them all.

A session is bound to the credential it was begun with: it ends when that token or password is no longer valid.
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
    """One session, begun with a token (its digest), or with a user and the `hashed` password that was valid then.

    `begun` and `seen` (the last request of a person) are in seconds of a monotonic clock.
    """

    begun: float
    seen: float
    token: bytes | None = None
    user: str = ""
    hashed: str = ""


class SessionStore:
    """The open sessions. Use it from the event loop only. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[bytes, Session] = {}

    def begin_session(self, now: float, *, token: bytes | None = None, user: str = "", hashed: str = "") -> str:
        """Begin a session and return its secret for the cookie.

        The secret is always new: one that an attacker planted in the viewer's cookie opens nothing.
        """
        self._drop_expired_sessions(now)
        if len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].seen)]
        secret = secrets.token_urlsafe(32)
        self._sessions[token_digest(secret.encode())] = Session(now, now, token, user, hashed)
        return secret

    def find_session(self, secret: str, now: float, *, used: bool = True) -> Session | None:
        """Return the session of a secret; None when there is none or it has expired.

        `used` means that a person caused the request, which keeps the session alive.
        """
        key = token_digest(secret.encode("utf-8", "replace"))
        session = self._sessions.get(key)
        if session is None:
            return None
        if _is_expired(session, now):
            del self._sessions[key]
            return None
        if used:
            self._sessions[key] = session = replace(session, seen=now)
        return session

    def end_session(self, secret: str) -> None:
        """End the session of a secret, if there is one."""
        self._sessions.pop(token_digest(secret.encode("utf-8", "replace")), None)

    def form_key(self, *owner: str) -> str:
        """Return the key that a form must send back, which only a page rendered for this viewer (`owner`) contains.

        It differs each time: a secret that stays the same in compressed pages can be guessed by their lengths (BREACH).
        """
        nonce = secrets.token_hex(8)
        return f"{nonce}.{self._sign_key_parts(nonce, *owner)}"

    def is_valid_form_key(self, offered: str, *owner: str) -> bool:
        """Return whether the key was made for this viewer."""
        nonce, _, signed = offered.partition(".")
        return hmac.compare_digest(signed.encode("utf-8", "replace"), self._sign_key_parts(nonce, *owner).encode())

    def _sign_key_parts(self, *parts: str) -> str:
        return hmac.new(self._secret, "\0".join(parts).encode("utf-8", "replace"), "sha256").hexdigest()

    def _drop_expired_sessions(self, now: float) -> None:
        self._sessions = {key: session for key, session in self._sessions.items() if not _is_expired(session, now)}


def _is_expired(session: Session, now: float) -> bool:
    return now - session.seen > IDLE_LIMIT or now - session.begun > LIFETIME_LIMIT
