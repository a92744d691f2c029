"""Accepts connections and admits each one after its TLS handshake.

The TLS context is read for every connection, so that a renewed certificate or another policy applies from the next one on. A
client that opens a connection and sends nothing does not delay other clients: its handshake runs in a task of its own for at
most HANDSHAKE_DEADLINE seconds, and above MAX_HANDSHAKES such tasks the oldest is cancelled.
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
# The first byte of every TLS record of a handshake: https://www.rfc-editor.org/rfc/rfc8446#section-5.1
_TLS_HANDSHAKE = b"\x16"
_PLAIN_HTTP_ANSWER = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS only: use https.\n"
)
_ACCEPT_RETRY = 1.0
# asyncio gives every TLS connection a receive buffer and writes all of it: 256 KiB for each client that only connects
# (bench/abuse.py: 350 of them cost 87 MiB, with this buffer 16). Larger input arrives in parts.
SSLProtocol.max_size = 4 * 1024

LOG = logging.getLogger(__name__)


class SocketListener:
    """Accepts the connections of one listening socket. Where `tls()` is None, they are admitted at once."""

    def __init__(
        self, sock: socket.socket, tls: Callable[[], ssl.SSLContext | None], protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._socket, self._tls, self._protocol = sock, tls, protocol
        self._loop = asyncio.get_running_loop()
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}  # in order of their arrival
        sock.setblocking(False)
        self._accepting = self._loop.create_task(self._accept_connections())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of this listener."""
        return self._loop

    def close(self) -> None:
        """Stop accepting connections, and cancel the handshakes."""
        self._accepting.cancel()
        for task in self._handshakes:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until no handshake is running."""
        await asyncio.gather(self._accepting, *self._handshakes, return_exceptions=True)

    async def _accept_connections(self) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(self._socket)
            except OSError as error:
                log_event(LOG, logging.WARNING, "cannot accept a connection, trying again in a second", error=error)
                await asyncio.sleep(_ACCEPT_RETRY)
                continue
            task = self._loop.create_task(self._admit_connection(connection))
            self._handshakes[task] = connection
            task.add_done_callback(self._handshake_ended)
            if len(self._handshakes) > MAX_HANDSHAKES:
                next(iter(self._handshakes)).cancel()

    def _handshake_ended(self, task: asyncio.Task[None]) -> None:
        connection = self._handshakes.pop(task)
        if task.cancelled():  # perhaps before it began
            connection.close()

    async def _admit_connection(self, connection: socket.socket) -> None:
        """Admit one connection; every error of this client closes this connection only."""
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
        """Peek at the first byte: True for TLS. A client that speaks plain HTTP gets an answer that says so."""
        ready = asyncio.Event()
        try:
            self._loop.add_reader(connection, ready.set)
        except NotImplementedError:
            return True  # Windows' loop cannot peek: plain HTTP then fails like any bad handshake
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
