"""Detects requests that another site made the browser send. Pure.

The credentials that a browser adds by itself (a password, a certificate, a cookie) prove who the viewer is, not that they
intended the request: another site can make the browser send a form here. And a host name that an attacker's DNS points at
127.0.0.1 makes their page the same site as ours to the browser (DNS rebinding), so on loopback only host names that can be
this server are answered.
"""

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

# Scrapers, probes and scripts send none of these headers.
_BROWSER_HEADERS = ("accept-language", "origin", "referer", "sec-fetch-site")
_OWN_SITES = ("same-origin", "none")


def is_cross_site(headers: Mapping[str, str], own_hosts: frozenset[str]) -> bool:
    """Return whether a browser says that another site caused the request. Other programs send no such header."""
    if headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    place = urlsplit(origin).netloc.lower()
    return not place or place not in {headers.get("host", "").lower(), *own_hosts}


def is_from_browser(headers: Mapping[str, str]) -> bool:
    """Return whether a browser sent the request: a page that causes one cannot make it leave out all of these headers."""
    return any(name in headers for name in _BROWSER_HEADERS)


def may_be_our_host(host: str, own_hosts: frozenset[str]) -> bool:
    """Return whether this Host can be this server on loopback: a number, localhost, this machine, or a configured name."""
    name = _host_name(host)
    if name in ("localhost", _machine_name()) or name.endswith(".localhost"):
        return True
    if host.lower() in own_hosts or name in {_host_name(own) for own in own_hosts}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Return whether the connection arrived on a loopback address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _host_name(host: str) -> str:
    """Return the host name in lower case, without the port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    return name.strip("[]").rstrip(".").lower()


def _machine_name() -> str:
    return socket.gethostname().lower()
