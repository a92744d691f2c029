"""Are name and password right? bcrypt is slow on purpose, so it runs beside the loop, one at a time, and what it said
is remembered: a scrape every few seconds must not cost it again. The hash is part of what is remembered, so a changed
file is a changed answer.

A name that is not known costs as much as one that is: time must not tell which names there are.
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

from exporter.web.log_limit import Refusals
from exporter.web.rate_limit import Failures

REMEMBERED = 100
# So many may wait for their turn; more would wait so long that they gave up.
WAITING = 32
MOST_FAILURES, WITHIN = 10, 60.0
_USUAL_COST = 10


class Verdict(Enum):
    """BUSY: nobody looked, too many others wait. BLOCKED: this address was wrong too often."""

    RIGHT = 0
    WRONG = 1
    BUSY = 2
    BLOCKED = 3


class Passwords:
    """Of one server; used from its event loop only."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._turn = ThreadPoolExecutor(1, "bcrypt")
        self._waiting = 0
        self.failures = Failures(MOST_FAILURES, WITHIN)
        self._refusals = Refusals("wrong passwords")

    async def check(self, users: Mapping[str, str], user: str, password: str, address: str) -> Verdict:
        """`users`: name to hash. Only guesses that are new count against the address."""
        hashed = users.get(user)
        key = self._key(user, hashed or "", password)
        if key in self._right:
            self._right.move_to_end(key)
            return Verdict.RIGHT
        if key in self._wrong:
            return Verdict.WRONG
        if self.failures.wait(address, time.monotonic()):
            return Verdict.BLOCKED
        if self._waiting >= WAITING:
            return Verdict.BUSY
        matches = await self._compare(password, hashed or _nobody(users))
        return self._remember(key, address, right=matches and hashed is not None)

    async def _compare(self, password: str, hashed: str) -> bool:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._turn, _matches, password, hashed)
        finally:
            self._waiting -= 1

    def _remember(self, key: bytes, address: str, *, right: bool) -> Verdict:
        kept = self._right if right else self._wrong
        kept[key] = None
        if len(kept) > REMEMBERED:
            kept.popitem(last=False)
        if right:
            self.failures.forget(address)
            return Verdict.RIGHT
        now = time.monotonic()
        if self.failures.note(address, now):
            self._refusals.tell(429, f"{MOST_FAILURES} within {WITHIN:.0f} s, so this address must wait", address, now)
        return Verdict.WRONG

    def _key(self, *parts: str) -> bytes:
        """Passwords are not kept, not even hashed without a secret."""
        sized = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (part.encode() for part in parts))
        return hmac.digest(self._secret, sized, "sha256")


def _matches(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), hashed.encode())
    except ValueError:  # longer than the 72 bytes that bcrypt looks at, or with a NUL: nobody's password
        return False


def _nobody(users: Mapping[str, str]) -> str:
    """A hash that nothing matches, as costly as the costliest of the known ones."""
    cost = max((int(hashed[4:6]) for hashed in users.values()), default=_USUAL_COST)
    return f"$2b${cost:02d}${'.' * 53}"
