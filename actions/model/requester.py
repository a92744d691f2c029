"""Names the user of this process, for the history: by the kernel's number, never by the environment alone."""

import os
from collections.abc import Callable
from pathlib import Path

# No session has begun: https://man7.org/linux/man-pages/man5/proc_pid_loginuid.5.html
_NO_LOGIN = 2**32 - 1
_LONGEST_NAME = 64


def process_requester() -> str:
    """`user ann (uid 1000)`; after sudo or su also who logged in, by the kernel's login uid, else as sudo says."""
    getuid: Callable[[], int] | None = getattr(os, "getuid", None)
    if getuid is None:
        return "a user of this machine"  # not POSIX
    return describe_requester(getuid(), _login_uid(), os.environ.get("SUDO_USER", ""), user_name)


def describe_requester(uid: int, login_uid: int | None, sudo_user: str, name_of: Callable[[int], str]) -> str:
    """The words for a process of `uid` in a session of `login_uid`. `sudo_user` is a text of the environment: untrusted."""
    own = ("user " if name_of(uid) else "") + _name_with_uid(uid, name_of)
    if login_uid is not None and login_uid != uid:
        return f"{own}, logged in as {_name_with_uid(login_uid, name_of)}"
    said = "".join(letter for letter in sudo_user[:_LONGEST_NAME] if letter.isprintable())
    if login_uid is None and said and said != name_of(uid):
        return f"{own}, for {said} as sudo says"
    return own


def user_name(uid: int) -> str:
    """The name of a user; empty where the system has none, as in many containers."""
    import pwd  # not on every system, and only persons ask

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _name_with_uid(uid: int, name_of: Callable[[int], str]) -> str:
    name = name_of(uid)
    return f"{name} (uid {uid})" if name else f"uid {uid}"


def _login_uid() -> int | None:
    """The kernel's login uid, which outlives sudo and su; None when there is none."""
    try:
        number = int(Path("/proc/self/loginuid").read_text("ascii"))
    except (OSError, ValueError):
        return None
    return None if number == _NO_LOGIN else number
