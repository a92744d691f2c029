"""Accepts connections, and lets each in once its TLS handshake is done. The context is asked for at every connection, so
that a renewed certificate, or another policy, holds from the next one on.

A client that opens a connection and says nothing costs nobody else anything: it waits beside, for HANDSHAKE_DEADLINE seconds
at most, and of more than MAX_ENTERING of its kind the oldest goes.
"""

import asyncio
import logging
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from contextlib import suppress

from exporter.log import log_event

HANDSHAKE_DEADLINE = 10.0
SHUTDOWN_DEADLINE = 2.0
MAX_HANDSHAKES = 256
# What begins every TLS record of a handshake: https://www.rfc-editor.org/rfc/rfc8446#section-5.1
_TLS_HANDSHAKE = b"\x16"
_PLAIN_HTTP_ANSWER = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS only: use https.\n"
)
_ACCEPT_RETRY = 1.0
# asyncio gives every TLS connection a buffer for what comes in, and writes all of it: 256 KiB for each stranger who only
# knocks (bench/abuse.py: 350 of them cost 87 MiB, with this buffer 16). What is larger comes in parts.
SSLProtocol.max_size = 4 * 1024

LOG = logging.getLogger(__name__)


class SocketListener:
    """Of one listening socket. `tls()` None: connections are let in at once."""

    def __init__(
        self, sock: socket.socket, tls: Callable[[], ssl.SSLContext | None], protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._socket, self._tls, self._protocol = sock, tls, protocol
        self._loop = asyncio.get_running_loop()
        self._entering: dict[asyncio.Task[None], socket.socket] = {}  # in order of their arrival
        sock.setblocking(False)
        self._accepting = self._loop.create_task(self._accept_connections())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs in."""
        return self._loop

    def close(self) -> None:
        """Let nobody in any more."""
        self._accepting.cancel()
        for task in self._entering:
            task.cancel()

    async def wait_closed(self) -> None:
        """Until nobody is on the way in."""
        await asyncio.gather(self._accepting, *self._entering, return_exceptions=True)

    async def _accept_connections(self) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(self._socket)
            except OSError as error:
                log_event(LOG, logging.WARNING, "cannot accept a connection, trying again in a second", error=error)
                await asyncio.sleep(_ACCEPT_RETRY)
                continue
            task = self._loop.create_task(self._admit_connection(connection))
            self._entering[task] = connection
            task.add_done_callback(self._handshake_ended)
            if len(self._entering) > MAX_HANDSHAKES:
                next(iter(self._entering)).cancel()

    def _handshake_ended(self, task: asyncio.Task[None]) -> None:
        connection = self._entering.pop(task)
        if task.cancelled():  # perhaps before it began
            connection.close()

    async def _admit_connection(self, connection: socket.socket) -> None:
        """Whatever a stranger does wrong here concerns nobody but the stranger."""
        context = self._tls()
        try:
            if context is None:
                await self._loop.connect_accepted_socket(self._protocol, connection)
                return
            if not await asyncio.wait_for(self._speaks_tls(connection), HANDSHAKE_DEADLINE):
                connection.close()
                return
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_DEADLINE,
                ssl_shutdown_timeout=SHUTDOWN_DEADLINE,
            )
        except (OSError, TimeoutError):
            connection.close()

    async def _speaks_tls(self, connection: socket.socket) -> bool:
        """Looks at the first byte and leaves it there. Who speaks plain HTTP is told so."""
        ready = asyncio.Event()
        try:
            self._loop.add_reader(connection, ready.set)
        except NotImplementedError:
            return True  # Windows' loop cannot look ahead: plain HTTP then fails like any bad handshake
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(connection)
        first = connection.recv(1, socket.MSG_PEEK)
        if first and first != _TLS_HANDSHAKE:
            with suppress(OSError):
                connection.recv(65536)  # unread data would turn the close into a reset, and the answer would be lost
                connection.send(_PLAIN_HTTP_ANSWER)
        return first == _TLS_HANDSHAKE
