"""Where the server listens and under which path and names it is reached.

Sockets are bound before the server starts, so that a port in use is one line of text and not a crash.
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit


class CannotListen(Exception):
    """An address cannot be listened on; the message is one line with the next step."""


class InvalidMount(Exception):
    """A path or an external address is malformed; the message is one line with the next step."""


@dataclass(frozen=True, slots=True)
class Mount:
    """The path and the names under which clients reach the server.

    `prefix` starts every path, "" for none. `own_hosts` are names of this server in addition to the usual ones, as HOST or
    HOST:PORT. `secure` is true when clients use https, also where a proxy speaks http with this server.
    """

    telemetry_path: str = "/metrics"
    prefix: str = ""
    own_hosts: frozenset[str] = frozenset()
    secure: bool = False

    @property
    def open_paths(self) -> frozenset[str]:
        """The paths of scrapes and probes: these are answered under any host name."""
        return frozenset({self.telemetry_path, "/-/healthy", "/-/ready"})


def bind_listen_addresses(addresses: Iterable[str]) -> list[socket.socket]:
    """Return listening sockets for `HOST:PORT`, `[::1]:PORT` or `:PORT`; port 0 takes a free port. Raises CannotListen."""
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            bound += _bind_address(address)
    except CannotListen:
        for listening in bound:
            listening.close()
        raise
    return bound


def listening_urls(sockets: Iterable[socket.socket], scheme: str = "http") -> tuple[str, ...]:
    """Return the URL of each socket with its real port; for a Unix socket `unix:` and its path."""
    return tuple(_socket_url(listening, scheme) for listening in sockets)


def parse_mount(telemetry_path: str, route_prefix: str | None, external_url: str | None) -> Mount:
    """Build the mount of the command line's options. The route prefix defaults to the path of the external URL.

    Raises InvalidMount.
    """
    place = urlsplit(external_url or "")
    if external_url and (place.scheme not in ("http", "https") or not place.netloc or place.query or place.fragment):
        raise InvalidMount(f"--web.external-url={external_url} is not an address; write http://HOST/PATH")
    prefix = _parse_mount_path("--web.route-prefix", place.path if route_prefix is None else route_prefix)
    own = frozenset({place.netloc.rpartition("@")[2].lower()}) if external_url else frozenset[str]()
    return Mount(_parse_mount_path("--web.telemetry-path", telemetry_path) or "/", prefix, own, place.scheme == "https")


def _bind_address(address: str) -> list[socket.socket]:
    host, port = _split_host_port(address)
    try:
        candidates = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotListen(
            f"{address}: {error.strerror}; give an address of this machine, like 127.0.0.1:9977"
        ) from error
    if not host:
        candidates.sort(key=lambda entry: entry[0] != socket.AF_INET6)
    family, kind, protocol, _, place = candidates[0]
    try:
        listening = socket.socket(family, kind, protocol)
    except OSError:
        family, kind, protocol, _, place = candidates[-1]
        listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        listening.bind(place)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        cure = "stop the other program or choose another port with --web.listen-address"
        raise CannotListen(f"cannot listen on {address}: {error.strerror}; {cure}") from error
    return [listening]


def _split_host_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise CannotListen(f"{address!r} is not an address; write HOST:PORT, like 127.0.0.1:9977")
    return host.strip("[]"), int(port)


def _socket_url(listening: socket.socket, scheme: str) -> str:
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _parse_mount_path(option: str, text: str) -> str:
    """Return the path with one slash before and none after it; empty for the root."""
    path = "/" + text.strip("/")
    if any(letter in path for letter in "{}?#%\\") or "//" in path or not path.isprintable() or " " in path:
        raise InvalidMount(f"{option}={text} is not a path; write it plainly, like /queues")
    return "" if path == "/" else path
