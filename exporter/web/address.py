"""Where to listen: sockets that are bound before the server starts, so that a taken port is one line and not a crash."""

import socket
from collections.abc import Iterable


class CannotListen(Exception):
    """An address that cannot be used; the message is one line with the next step."""


def bind_addresses(addresses: Iterable[str]) -> list[socket.socket]:
    """Listening sockets of `HOST:PORT`, `[::1]:PORT` or `:PORT`; port 0 takes a free one. Raises CannotListen."""
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            bound += _bind_address(address)
    except CannotListen:
        for one in bound:
            one.close()
        raise
    return bound


def listening_urls(sockets: Iterable[socket.socket], scheme: str = "http") -> tuple[str, ...]:
    """Where the sockets really listen; a Unix socket by its path."""
    return tuple(_socket_url(one, scheme) for one in sockets)


def _bind_address(address: str) -> list[socket.socket]:
    host, port = _split_address(address)
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


def _split_address(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise CannotListen(f"{address!r} is not an address; write HOST:PORT, like 127.0.0.1:9977")
    return host.strip("[]"), int(port)


def _socket_url(one: socket.socket, scheme: str) -> str:
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return f"unix:{one.getsockname()}"
    host, port = one.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
