"""uvicorn's HTTP protocol with limits on the time and the memory that a client can make the server spend.

uvicorn itself waits for ever for a request that does not arrive, and keeps an answer that the client does not read for ever.
"""

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

# In seconds: to the end of a request's head, to the end of its body, and for an answer that the client does not read.
HEAD_DEADLINE = 10.0
READ_DEADLINE = 15.0
WRITE_DEADLINE = 30.0
MAX_HEAD_BYTES = 64 * 1024
MAX_CONNECTIONS = 512
_HEAD_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 28\r\nConnection: close\r\n\r\nthe request head is too long"
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Above MAX_CONNECTIONS the oldest idle one is closed, so that idle connections cannot lock out a scrape.

    A client's certificate must have one of `allowed_names`; None allows every client. The names are in a request's state as
    `client_names`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        allowed_names: frozenset[str] | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._allowed_names = allowed_names
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._client_names: tuple[str, ...] = ()
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._client_names = certificate_names(transport.get_extra_info("peercert"))
        if self._allowed_names is not None and self._allowed_names.isdisjoint(self._client_names):
            transport.abort()
            return
        if len(self.connections) > MAX_CONNECTIONS:
            self._close_oldest_idle()
        self._start_request_timers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_read_timer()
        self._stop_write_timer()
        super().connection_lost(exc)
        # uvicorn leaves this timer after a broken connection, which would keep the whole connection in memory for a minute
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_HEAD_TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["client_names"] = self._client_names
        if self._head_timer is None:
            self._start_request_timers()

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_read_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()
        if self._read_timer is not None and not self.transport.is_closing():
            self.transport.close()  # answered without reading the whole body: its rest must not be read as the next request

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_DEADLINE, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def _close_oldest_idle(self) -> None:
        others = (other for other in self.connections if isinstance(other, BoundedProtocol) and other is not self)
        idle = [other for other in others if other.cycle is None or other.cycle.response_complete]
        oldest = min(idle, key=lambda other: other.idle_since, default=self)
        oldest.transport.abort()

    def _start_request_timers(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_DEADLINE, self.transport.abort)
        self._stop_read_timer()  # that of the pipelined request before
        self._read_timer = self.loop.call_later(READ_DEADLINE, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def certificate_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the subject alternative names of a verified client certificate: DNS, e-mail, address, URI."""
    names = certificate.get("subjectAltName", ()) if certificate else ()
    return tuple(_canonical_address(value) if kind == "IP Address" else value for kind, value in names)


def _canonical_address(text: str) -> str:
    """Return the address in its usual short form: OpenSSL writes IPv6 addresses in full."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text
