"""systemd's two plain protocols: sockets that it opened for us, and what we tell it. No library is needed for either.

https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html, sd_notify.html. Without systemd both do nothing.
"""

import os
import socket
import time
from collections.abc import MutableMapping

_FIRST = 3  # SD_LISTEN_FDS_START


class NoInheritedSockets(Exception):
    """systemd passed no socket on; the message is one line with the next step."""


def inherit_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that were passed on. The variables are removed: they are not for our children. Raises NoSockets."""
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or int(count) < 1 or pid != str(os.getpid()):
        cure = "start it by a .socket unit, or leave --web.systemd-socket out"
        raise NoInheritedSockets(f"no socket was passed on by systemd; {cure}")
    found = [socket.socket(fileno=number) for number in range(_FIRST, _FIRST + int(count))]
    for one in found:
        os.set_inheritable(one.fileno(), False)
        if one.type != socket.SOCK_STREAM:
            raise NoInheritedSockets(
                f"descriptor {one.fileno()} is no stream socket; write ListenStream= in the .socket unit"
            )
    return found


def notify(*words: str) -> bool:
    """Tell systemd: READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1. False when nobody wants to know."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return False
    address = "\0" + place[1:] if place.startswith("@") else place
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as one:
            one.sendto("\n".join(words).encode(), address)
    except OSError:
        return False  # a service manager that does not listen is no reason to stop
    return True


def notify_reloading() -> bool:
    """Tell systemd that a reload begins, and when, as `Type=notify-reload` wants it."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval(environment: MutableMapping[str, str]) -> float | None:
    """How often, in seconds, systemd wants to hear WATCHDOG=1: half of what it waits; None when it does not."""
    given, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    return int(given) / 2e6 if given.isdigit() and int(given) > 0 and pid == str(os.getpid()) else None
