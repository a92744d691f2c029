"""The two plain protocols of systemd: sockets that it passes on, and notifications to it. Neither needs a library.

https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html, sd_notify.html. Without systemd both do nothing.
"""

import os
import socket
import time
from collections.abc import MutableMapping

_FIRST = 3  # SD_LISTEN_FDS_START


class NoInheritedSockets(Exception):
    """systemd passed on no usable socket; the message is one line with the next step."""


def inherit_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that systemd passed on. Removes the variables, which are not for child processes.

    Raises NoInheritedSockets.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or int(count) < 1 or pid != str(os.getpid()):
        cure = "start it by a .socket unit, or leave --web.systemd-socket out"
        raise NoInheritedSockets(f"no socket was passed on by systemd; {cure}")
    listeners = [socket.socket(fileno=number) for number in range(_FIRST, _FIRST + int(count))]
    for listener in listeners:
        os.set_inheritable(listener.fileno(), False)
        if listener.type != socket.SOCK_STREAM:
            raise NoInheritedSockets(
                f"descriptor {listener.fileno()} is no stream socket; write ListenStream= in the .socket unit"
            )
    return listeners


def send_notification(*words: str) -> bool:
    """Send READY=1, RELOADING=1, STOPPING=1 or WATCHDOG=1 to systemd. False when it was not sent."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return False
    address = "\0" + place[1:] if place.startswith("@") else place
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as sender:
            sender.sendto("\n".join(words).encode(), address)
    except OSError:
        return False  # a service manager that does not listen must not stop the agent
    return True


def notify_reloading() -> bool:
    """Tell systemd that a reload begins, and when, as `Type=notify-reload` requires. False when it was not sent."""
    return send_notification("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval(environment: MutableMapping[str, str]) -> float | None:
    """Seconds between two WATCHDOG=1: half of systemd's timeout; None without a watchdog."""
    given, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    return int(given) / 2e6 if given.isdigit() and int(given) > 0 and pid == str(os.getpid()) else None
