"""Reads the body of a request within limits of size and time; uvicorn itself has neither limit."""

import asyncio

from starlette.requests import ClientDisconnect, Request

MAX_BODY_BYTES = 1024 * 1024
BODY_DEADLINE = 5.0


class BodyTooLarge(Exception):
    """The body is larger than MAX_BODY_BYTES, or its Content-Length says so."""


class BodyTooSlow(Exception):
    """The body did not arrive within BODY_DEADLINE seconds."""


async def read_body(request: Request) -> bytes:
    """Return the whole body.

    Raises BodyTooLarge (before reading where Content-Length says so), BodyTooSlow, ClientDisconnect.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise BodyTooLarge
    try:
        # not `wait_for`: its task, its error and the parts read by then would refer to each other until the next cycle search
        async with asyncio.timeout(BODY_DEADLINE):
            return await _collect_parts(request)
    except TimeoutError as error:
        raise BodyTooSlow from error


async def _collect_parts(request: Request) -> bytes:
    """Read all parts without `request.stream()`: a generator that is abandoned half way keeps the body until the next cycle
    search.
    """
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
