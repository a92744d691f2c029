"""Rejects acting on an address that other machines reach when no caller is allowed by name. Pure."""

import ipaddress
from collections.abc import Iterable

from exporter.config.settings import ActingSettings


def exposure_problem(acting: ActingSettings, hosts: Iterable[str]) -> str | None:
    """Why acting must not be enabled while listening on `hosts`, and the next step; None when it may.

    `hosts`: addresses without a port. On loopback, thresholds and schedules may act without any allowed caller.
    """
    if not acting.enabled or acting.has_allowed_callers:
        return None
    exposed = next((host for host in hosts if not is_loopback(host)), None)
    if exposed is None:
        return None
    return (
        f"acting is enabled, it listens on {exposed}, and no caller is allowed to act: name a private file in "
        "actions.allow.token_files, or listen on 127.0.0.1 only, or set actions.enabled: false"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address. A local socket has no address and counts as loopback."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host in ("localhost", "") or host.startswith("/")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
