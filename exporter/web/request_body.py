"""Reads a request's body within a size and a time: uvicorn alone puts no bound on either."""

import asyncio

from starlette.requests import ClientDisconnect, Request

MAX_BODY_BYTES = 1024 * 1024
BODY_DEADLINE = 5.0


class BodyTooLarge(Exception):
    """The body is, or says it is, larger than allowed."""


class BodyTooSlow(Exception):
    """The body did not arrive within its time."""


async def read_body(request: Request) -> bytes:
    """The whole body. Raises TooLarge (before reading when Content-Length tells), TooSlow, ClientDisconnect."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise BodyTooLarge
    try:
        # not `wait_for`: its task, its error and what was read by then would hold each other until cycles are looked for
        async with asyncio.timeout(BODY_DEADLINE):
            return await _collect_parts(request)
    except TimeoutError as error:
        raise BodyTooSlow from error


async def _collect_parts(request: Request) -> bytes:
    """Not by `request.stream()`: a generator that is left half way lives until cycles are looked for, and so does the body."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge
        parts.append(part)
    return b"".join(parts)


__all__ = ["BodyTooLarge", "BodyTooSlow", "ClientDisconnect", "read_body"]
