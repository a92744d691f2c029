"""Acting must not be enabled where everybody can reach it and nobody was named who may. Pure."""

import ipaddress
from collections.abc import Iterable

from exporter.config.settings import ActingSettings


def exposure_problem(acting: ActingSettings, hosts: Iterable[str]) -> str | None:
    """What is wrong with acting while listening on these addresses, with the cure; None when nothing is.

    `hosts`: addresses without a port. On loopback, thresholds and schedules may act although nobody may ask.
    """
    if not acting.enabled or acting.has_allowed_callers:
        return None
    exposed = next((host for host in hosts if not is_loopback(host)), None)
    if exposed is None:
        return None
    return (
        f"acting is enabled, it listens on {exposed}, and nobody is named who may act: name a private file in "
        "actions.allow.token_files, or listen on 127.0.0.1 only, or set actions.enabled: false"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address. A local socket has none and counts as loopback."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host in ("localhost", "") or host.startswith("/")
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
