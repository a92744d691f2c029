"""Everything a stranger can do to an HTTP server at once. usage: abuser.py HOST PORT CAFILE TOKEN

Says `ready` once all is under way and ends with its input; then prints one JSON object: what became of each kind.
"""

import asyncio
import contextlib
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

HOST, PORT, CAFILE, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
HALF, DRIPPING, STREAMS, PARALLEL = 300, 10, 40, 64
CONTEXT = ssl.create_default_context(cafile=CAFILE)
AUTHORIZED = f"Authorization: Bearer {TOKEN}\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

seen: Counter[str] = Counter()
longest: dict[str, float] = {}
GONE = (OSError, asyncio.IncompleteReadError, ssl.SSLError)


async def connect(*, tls: bool = True) -> Connection:
    return await asyncio.open_connection(HOST, PORT, ssl=CONTEXT if tls else None, limit=2**16)


async def closed(kind: str, connection: Connection) -> None:
    """Wait until the server ends it, and note how long that took."""
    begun = time.monotonic()
    with contextlib.suppress(*GONE):
        while await connection[0].read(65536):
            pass
    seen[f"{kind} closed"] += 1
    longest[kind] = max(longest.get(kind, 0.0), time.monotonic() - begun)


async def silent() -> None:
    """A TCP connection that never begins its handshake."""
    await closed("silent", await connect(tls=False))


async def half() -> None:
    """Half a request head."""
    connection = await connect()
    connection[1].write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Half")
    await closed("half", connection)


async def drip(kind: str, head: bytes, drop: bytes) -> None:
    """A head or a body in drops, again and again."""
    while True:
        connection = await connect()
        connection[1].write(head)
        waiter = asyncio.create_task(closed(kind, connection))
        with contextlib.suppress(*GONE):
            while not waiter.done() and not connection[1].transport.is_closing():
                connection[1].write(drop)
                await connection[1].drain()
                await asyncio.sleep(0.3)
        await waiter


async def huge_head() -> None:
    """A header line of a mebibyte."""
    while True:
        connection = await connect()
        with contextlib.suppress(*GONE):
            connection[1].write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 2**20 + b"\r\n\r\n")
            await connection[1].drain()
        await closed("huge head", connection)
        await asyncio.sleep(0.5)


async def huge_body(head: bytes) -> None:
    """200 MiB, as long as the server takes them."""
    while True:
        connection = await connect()
        sent = 0
        with contextlib.suppress(*GONE):
            connection[1].write(head)
            for _ in range(3200):
                if connection[1].transport.is_closing():
                    break
                connection[1].write(b"x" * 65536)
                await connection[1].drain()
                sent += 65536
        longest["huge body, MiB sent"] = max(longest.get("huge body, MiB sent", 0), sent / 2**20)
        await closed("huge body", connection)
        await asyncio.sleep(0.5)


async def stream() -> None:
    """An event stream that nobody reads: the window stays shut."""
    while True:
        reader, writer = await connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(20)
        writer.close()
        del reader


async def scrape(connection: Connection) -> None:
    """One scrape of a connection that stays."""
    connection[1].write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await connection[0].readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length"))
    await connection[0].readexactly(length)
    seen[f"parallel {head.split()[1].decode()}"] += 1


async def bursts() -> None:
    """64 scrapes at once, once a second."""
    connections = [await connect() for _ in range(PARALLEL)]
    while True:
        await asyncio.gather(*(scrape(one) for one in connections))
        await asyncio.sleep(1)


async def patiently(abuse: Callable[[], Awaitable[None]]) -> None:
    """A refused connection is tried again."""
    while True:
        try:
            return await abuse()
        except GONE:
            seen["refused"] += 1
            await asyncio.sleep(0.2)


async def main() -> None:
    """Begin all of it, and end with the input."""
    get, post = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n", b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n"
    length = b"Content-Length: 209715200\r\n\r\n"
    kinds: list[Callable[[], Awaitable[None]]] = [silent] * (HALF // 2) + [half] * (HALF // 2) + [stream] * STREAMS
    kinds += [lambda: drip("dripping head", get, b"X: y\r\n")] * DRIPPING
    kinds += [
        lambda: drip("dripping body", post + AUTHORIZED.encode() + b"Content-Length: 900\r\n\r\n", b"x")
    ] * DRIPPING
    kinds += [huge_head, lambda: huge_body(post + AUTHORIZED.encode() + length), lambda: huge_body(get + length)]
    kinds += [lambda: huge_body(post + AUTHORIZED.encode() + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"), bursts]
    tasks = [asyncio.create_task(patiently(kind)) for kind in kinds]
    await asyncio.sleep(1)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    print(json.dumps({"seen": seen, "longest": longest}), flush=True)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
