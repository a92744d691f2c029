"""Did the browser that sends this mean us? Pure.

What a visitor's browser adds by itself (a password, a certificate, a cookie) proves who they are, not that they meant it:
another site can make it send a form here. And a name that a stranger's DNS points at 127.0.0.1 makes their page ours in
the eyes of the browser (DNS rebinding), so on loopback only names that can be ours are answered.
"""

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

# Scrapers, probes and scripts have no language to prefer, and come from no page.
_BROWSER_HEADERS = ("accept-language", "origin", "referer", "sec-fetch-site")
_OWN_SITES = ("same-origin", "none")


def is_cross_site(headers: Mapping[str, str], own_hosts: frozenset[str]) -> bool:
    """Whether a browser says that another site made it send this. Programs that are no browsers say nothing."""
    if headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    place = urlsplit(origin).netloc.lower()
    return not place or place not in {headers.get("host", "").lower(), *own_hosts}


def is_from_browser(headers: Mapping[str, str]) -> bool:
    """Whether a person's browser sent it: a page that makes it do so cannot have it leave all of these out."""
    return any(name in headers for name in _BROWSER_HEADERS)


def may_be_our_host(host: str, own_hosts: frozenset[str]) -> bool:
    """Whether this Host can be meant for a loopback address: a number, localhost, this machine, or a configured name."""
    name = _host_name(host)
    if name in ("localhost", _machine_name()) or name.endswith(".localhost"):
        return True
    if host.lower() in own_hosts or name in {_host_name(one) for one in own_hosts}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether the connection came in on a loopback address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _host_name(host: str) -> str:
    """Without the port, in lower case."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    return name.strip("[]").rstrip(".").lower()


def _machine_name() -> str:
    return socket.gethostname().lower()
