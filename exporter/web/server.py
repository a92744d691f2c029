"""The HTTP server: uvicorn with sockets that are bound before it starts, and an end without a signal's status.

uvicorn raises the signal again after its shutdown, which turns a clean stop into exit status -15; here SIGTERM and
SIGINT end it with the caller's own exit code. A client that opens a connection and does not send a whole request head
within HEAD_DEADLINE seconds is cut off: uvicorn itself would wait for ever.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_DEADLINE = 10.0
MAX_HEAD_BYTES = 64 * 1024
MAX_CONNECTIONS = 512


class CannotListen(Exception):
    """An address that cannot be used; the message is one line with the next step."""


def bind(addresses: Iterable[str]) -> list[socket.socket]:
    """Listening sockets of `HOST:PORT`, `[::1]:PORT` or `:PORT`; port 0 takes a free one. Raises CannotListen."""
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            bound += _bind(address)
    except CannotListen:
        for one in bound:
            one.close()
        raise
    return bound


def urls(sockets: Iterable[socket.socket]) -> tuple[str, ...]:
    """Where the sockets really listen."""
    return tuple(_url(*one.getsockname()[:2]) for one in sockets)


class Server(uvicorn.Server):
    """`run(sockets)` blocks until SIGTERM, SIGINT or `stop()`. `on_hangup` is called in the event loop at SIGHUP."""

    def __init__(
        self, app: ASGIApp, *, on_hangup: Callable[[], None] | None = None, on_stop: Callable[[], None] | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=5,
                ws="none",
            )
        )
        self._on_hangup, self._on_stop = on_hangup, on_stop

    def stop(self) -> None:
        """End soon; callable from any thread."""
        if self._on_stop is not None and not self.should_exit:
            self._on_stop()
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Our own handlers while it runs, the former ones afterwards. Outside the main thread: none."""
        wanted: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: lambda *_: self.stop(),
            signal.SIGINT: lambda *_: self.stop(),
        }
        hangup = self._on_hangup
        if hangup is not None and hasattr(signal, "SIGHUP"):
            wanted[signal.SIGHUP] = lambda *_: self._soon(hangup)
        try:
            before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        except ValueError:  # signal() only works in the main thread; a test runs us in another
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _soon(self, call: Callable[[], None]) -> None:
        for server in getattr(self, "servers", ()):
            server.get_loop().call_soon_threadsafe(call)
            return


class _Protocol(HttpToolsProtocol):
    """A bound on the time and the size of a request's head, and on the number of connections.

    Of too many connections the oldest idle one goes: idle ones of anybody must not lock a scrape out.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def _make_room(self) -> None:
        others = (one for one in self.connections if isinstance(one, _Protocol) and one is not self)
        idle = [one for one in others if one.cycle is None or one.cycle.response_complete]
        victim = min(idle, key=lambda one: one.idle_since, default=self)
        victim.transport.abort()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_DEADLINE, self._expire)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expire(self) -> None:
        self._head_timer = None
        self.transport.abort()


def _bind(address: str) -> list[socket.socket]:
    host, port = _split(address)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotListen(
            f"{address}: {error.strerror}; give an address of this machine, like 127.0.0.1:9977"
        ) from error
    if not host:
        found.sort(key=lambda entry: entry[0] != socket.AF_INET6)
    family, kind, protocol, _, place = found[0]
    try:
        one = socket.socket(family, kind, protocol)
    except OSError:
        family, kind, protocol, _, place = found[-1]
        one = socket.socket(family, kind, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        one.bind(place)
        one.listen(1024)
    except OSError as error:
        one.close()
        cure = "stop the other program or choose another port with --web.listen-address"
        raise CannotListen(f"cannot listen on {address}: {error.strerror}; {cure}") from error
    return [one]


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise CannotListen(f"{address!r} is not an address; write HOST:PORT, like 127.0.0.1:9977")
    return host.strip("[]"), int(port)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
