"""Who asked, by the kernel's numbers; the environment is quoted as what it says, never believed."""

import os
import subprocess
import sys

import pytest

from actions.model.requester import describe_requester

NAMES = {0: "root", 1000: "ann"}


def name_of(uid: int) -> str:
    return NAMES.get(uid, "")


@pytest.mark.parametrize(
    ("uid", "login_uid", "sudo_user", "words"),
    [
        (1000, None, "", "user ann (uid 1000)"),
        (1000, 1000, "", "user ann (uid 1000)"),
        (4242, None, "", "uid 4242"),
        (0, 1000, "", "user root (uid 0), logged in as ann (uid 1000)"),
        (0, 1000, "ben", "user root (uid 0), logged in as ann (uid 1000)"),
        (0, None, "ann", "user root (uid 0), for ann as sudo says"),
        (0, 0, "ann", "user root (uid 0)"),
        (1000, None, "ann", "user ann (uid 1000)"),
        (0, None, "a\x1b[31m\nb" + "x" * 500, "user root (uid 0), for a[31mb" + "x" * 56 + " as sudo says"),
    ],
)
def test_the_words(uid: int, login_uid: int | None, sudo_user: str, words: str) -> None:
    assert describe_requester(uid, login_uid, sudo_user, name_of) == words


@pytest.mark.skipif(os.name != "posix", reason="users have numbers there")
def test_the_environment_does_not_rename_the_user() -> None:
    code = "from actions.model.requester import process_requester; print(process_requester())"
    forged = {**os.environ, "LOGNAME": "mallory", "USER": "mallory", "LNAME": "mallory", "USERNAME": "mallory"}
    forged.pop("SUDO_USER", None)
    output = subprocess.run([sys.executable, "-c", code], env=forged, capture_output=True, text=True, check=True).stdout
    assert f"uid {os.getuid()}" in output
    assert "mallory" not in output
