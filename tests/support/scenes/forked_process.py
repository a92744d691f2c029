"""Processes of ours that are forked from a server which has loaded our modules: an action's child, a command, an agent.

They are processes of their own as `python -m MODULE` is, with their own number, memory and connections; what is saved is
the CPU time of loading. The server starts with the first of them and ends with this process.
"""

import atexit
import json
import os
import resource
import select
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import IO, Any

SCRIPT = Path(__file__).parent.parent / "processes" / "fork_server.py"
REAL_PYTHON = sys.executable
_ONE_JOB_AT_A_TIME = threading.Lock()


@cache
def _fork_server() -> socket.socket:
    """The socket of this process's server; a Ctrl-C at the terminal is not for the server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [REAL_PYTHON, "-I", str(SCRIPT), str(theirs.fileno())]
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={},  # what a test marks its processes with must not mark the server; each job brings its own environment
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


class ForkedProcess:
    """`python -m MODULE ARGUMENTS`, forked; what `subprocess.Popen` has of attributes and methods that tests use.

    `stdin`, `stdout`, `stderr` are descriptors, `subprocess.PIPE` or `subprocess.DEVNULL`; pipes are of bytes.
    """

    def __init__(
        self, module: str, *arguments: str, stdin: Any, stdout: Any, stderr: Any, new_session: bool = False
    ) -> None:
        self.args = [REAL_PYTHON, "-m", module, *arguments]
        self.returncode: int | None = None
        theirs: list[int] = []
        self.stdin = _open_end(stdin, theirs, writing=True)
        self.stdout = _open_end(stdout, theirs, writing=False)
        self.stderr = _open_end(stderr, theirs, writing=False)
        self._status, status = os.pipe()
        theirs.append(status)
        job = {
            "module": module,
            "arguments": arguments,
            "directory": str(Path.cwd()),
            "environment": dict(os.environ),
            "umask": _current_umask(),
            "file_size_limit": resource.getrlimit(resource.RLIMIT_FSIZE),
            "new_session": new_session,
        }
        with _ONE_JOB_AT_A_TIME:
            server = _fork_server()
            socket.send_fds(server, [json.dumps(job).encode()], theirs)
            self.pid = int.from_bytes(server.recv(8), "little")
        for descriptor in theirs:
            os.close(descriptor)

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._read_status()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status, of a signal as a negative number. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._read_status()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)

    def _read_status(self) -> None:
        self.returncode = int.from_bytes(os.read(self._status, 4), "little", signed=True)
        os.close(self._status)


def run_forked(module: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run it to its end without input; both outputs as text."""
    process = ForkedProcess(
        module, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    outputs: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=lambda name=name: outputs.update({name: getattr(process, name).read()}))  # type: ignore[misc]
        for name in ("stdout", "stderr")
    ]
    for reader in readers:
        reader.start()
    try:
        status = process.wait(timeout)
    finally:
        process.kill()
        for reader in readers:
            reader.join()
        for pipe in (process.stdout, process.stderr):
            pipe.close()
    return subprocess.CompletedProcess(process.args, status, outputs["stdout"].decode(), outputs["stderr"].decode())


def spawn_forked_child(errors: IO[bytes]) -> Any:
    """An action's child for `actions.runner.spawn`."""
    return ForkedProcess(
        "actions.runner.child",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors.fileno(),
        new_session=True,
    )


def _open_end(wanted: int, theirs: list[int], *, writing: bool) -> Any:
    """Our end of a pipe, None where there is none; the other end is added to `theirs`."""
    if wanted == subprocess.DEVNULL:
        theirs.append(os.open(os.devnull, os.O_RDWR))
        return None
    if wanted != subprocess.PIPE:
        theirs.append(os.dup(wanted))
        return None
    reading_end, writing_end = os.pipe()
    theirs.append(reading_end if writing else writing_end)
    return os.fdopen(writing_end, "wb") if writing else os.fdopen(reading_end, "rb")


def _current_umask() -> int:
    """The kernel tells it without changing it (proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))
