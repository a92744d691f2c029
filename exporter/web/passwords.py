"""Checks names and passwords with bcrypt.

bcrypt is slow on purpose, so it runs in a thread of its own, one check at a time, and its results are cached: a scrape every
few seconds must not pay for it again. The cache key includes the hash, so a changed file gives a new result.

An unknown name costs as much time as a known one, so that the time of an answer does not reveal which names exist.
"""

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import bcrypt

from exporter.web.log_limit import RejectionLog
from exporter.web.rate_limit import FailureLimiter

MAX_REMEMBERED = 100
# How many checks may wait; more would wait so long that their clients gave up.
MAX_WAITING_CHECKS = 32
MAX_PASSWORD_FAILURES, PASSWORD_FAILURE_WINDOW = 10, 60.0
_USUAL_COST = 10


class PasswordVerdict(Enum):
    """The result of a check. BUSY: not checked, too many others wait. BLOCKED: this address failed too often."""

    RIGHT = 0
    WRONG = 1
    BUSY = 2
    BLOCKED = 3


class PasswordChecker:
    """Checks the passwords of one server. Use it from the server's event loop only."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "bcrypt")
        self._waiting = 0
        self.failures = FailureLimiter(MAX_PASSWORD_FAILURES, PASSWORD_FAILURE_WINDOW)
        self._rejections = RejectionLog("wrong passwords")

    async def verify_password(
        self, users: Mapping[str, str], user: str, password: str, address: str
    ) -> PasswordVerdict:
        """Check a password against `users`, which maps names to hashes. Only new wrong passwords count against the address."""
        hashed = users.get(user)
        key = self._verdict_cache_key(user, hashed or "", password)
        if key in self._right:
            self._right.move_to_end(key)
            return PasswordVerdict.RIGHT
        if key in self._wrong:
            return PasswordVerdict.WRONG
        if self.failures.wait_seconds(address, time.monotonic()):
            return PasswordVerdict.BLOCKED
        if self._waiting >= MAX_WAITING_CHECKS:
            return PasswordVerdict.BUSY
        matches = await self._compare_password_hash(password, hashed or _unmatchable_hash(users))
        return self._remember_verdict(key, address, right=matches and hashed is not None)

    async def _compare_password_hash(self, password: str, hashed: str) -> bool:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, _matches_hash, password, hashed)
        finally:
            self._waiting -= 1

    def _remember_verdict(self, key: bytes, address: str, *, right: bool) -> PasswordVerdict:
        cache = self._right if right else self._wrong
        cache[key] = None
        if len(cache) > MAX_REMEMBERED:
            cache.popitem(last=False)
        if right:
            self.failures.clear_failures(address)
            return PasswordVerdict.RIGHT
        now = time.monotonic()
        if self.failures.record_failure(address, now):
            self._rejections.log_rejection(
                429,
                f"{MAX_PASSWORD_FAILURES} within {PASSWORD_FAILURE_WINDOW:.0f} s, so this address must wait",
                address,
                now,
            )
        return PasswordVerdict.WRONG

    def _verdict_cache_key(self, *parts: str) -> bytes:
        """Return the cache key: no password is stored, nor a hash of one without a secret."""
        sized = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (part.encode() for part in parts))
        return hmac.digest(self._secret, sized, "sha256")


def _matches_hash(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), hashed.encode())
    except ValueError:  # longer than the 72 bytes that bcrypt reads, or with a NUL: no valid password
        return False


def _unmatchable_hash(users: Mapping[str, str]) -> str:
    """Return a hash that no password matches, as costly as the costliest of the known ones."""
    cost = max((int(hashed[4:6]) for hashed in users.values()), default=_USUAL_COST)
    return f"$2b${cost:02d}${'.' * 53}"
