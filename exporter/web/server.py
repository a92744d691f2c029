"""The HTTP server: uvicorn with our own listeners and protocol, and an exit status of its own after a signal.

uvicorn raises the signal again after its shutdown, which turns a clean stop into exit status -15; here SIGTERM and
SIGINT end it with the caller's own exit code.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from exporter.web.listener import SocketListener
from exporter.web.protocol import BoundedProtocol
from exporter.web_config.settings import WebConfig

KEEP_ALIVE_SECONDS = 65
SHUTDOWN_GRACE = 5


class HttpServer(uvicorn.Server):
    """`run(sockets)` blocks until SIGTERM, SIGINT or `stop()`.

    `web` returns the web configuration as of now. `on_hangup` is called in the event loop at SIGHUP, `on_start` once the server
    listens, `on_stop` when it begins to stop. `behind_proxy` makes it trust the client address that a proxy on this machine
    sends in X-Forwarded-For; without a proxy every client could forge it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        web: Callable[[], WebConfig] = WebConfig,
        on_hangup: Callable[[], None] | None = None,
        on_start: Callable[[], object] | None = None,
        on_stop: Callable[[], object] | None = None,
        behind_proxy: bool = False,
    ) -> None:
        logging.getLogger("uvicorn.error").addFilter(_is_worth_logging)
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_GRACE,
                ws="none",
                proxy_headers=behind_proxy,
            )
        )
        self._web = web
        self._on_hangup, self._on_start, self._on_stop = on_hangup, on_start, on_stop
        self._regular: list[tuple[float, Callable[[], object]]] = []

    def call_every(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` every `seconds` in the event loop, from the start on."""
        self._regular.append((seconds, call))

    def stop(self) -> None:
        """Make the server stop soon. May be called from any thread."""
        if self._on_stop is not None and not self.should_exit:
            self._on_stop()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets with our own listeners: asyncio's servers keep one TLS context for ever."""
        await self.lifespan.startup()
        listeners = [SocketListener(sock, lambda: self._web().tls, self._create_protocol) for sock in sockets or ()]
        self.servers = cast("list[asyncio.base_events.Server]", listeners)  # both have close() and wait_closed()
        self.started = True
        for seconds, call in self._regular:
            _call_repeatedly(asyncio.get_running_loop(), seconds, call)
        if self._on_start is not None:
            self._on_start()

    def _create_protocol(self) -> asyncio.Protocol:
        allowed = self._web().allowed_names
        return BoundedProtocol(self.config, self.server_state, self.lifespan.state, allowed_names=allowed)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install our signal handlers while the server runs, and restore the former ones. Outside the main thread: none."""
        wanted: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: lambda *_: self.stop(),
            signal.SIGINT: lambda *_: self.stop(),
        }
        hangup = self._on_hangup
        if hangup is not None and hasattr(signal, "SIGHUP"):
            wanted[signal.SIGHUP] = lambda *_: self._call_soon(hangup)
        try:
            before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        except ValueError:  # signal() only works in the main thread; a test runs us in another
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _call_soon(self, call: Callable[[], None]) -> None:
        for server in getattr(self, "servers", ()):
            server.get_loop().call_soon_threadsafe(call)
            return


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Drop uvicorn's warnings of invalid HTTP, which it answers 400: a line each could fill the disk with our log."""
    return record.levelno > logging.WARNING or record.module != "httptools_impl"


def _call_repeatedly(loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], object]) -> None:
    call()
    loop.call_later(seconds, _call_repeatedly, loop, seconds, call)
