"""Starts the child process of a run, relays its events, asks it to stop."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from actions.model.events import Event, decode_event
from actions.runner.protocol import Job, encode_job


class RunningAction:
    """A running child. Closing its input, as our own death does, makes it stop at its next safe point.

    Raises OSError when no process can be started.
    """

    def __init__(self, job: Job) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 a file, not a pipe: the child goes on without a reader
        try:
            self._process = _spawn_child(self._errors)
        except OSError:
            self._errors.close()
            raise
        self._send_line(encode_job(job))

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._process.pid

    def read_events(self) -> Iterator[Event]:
        """The events of the child, until it ends."""
        assert self._process.stdout is not None  # noqa: S101 for the type checker: stdin and stdout are pipes
        for line in self._process.stdout:
            try:
                yield decode_event(line)
            except ValueError:
                continue  # a line torn by the child's death

    def stop(self) -> None:
        """Ask it to stop at its next safe point."""
        self._send_line(b"stop\n")

    def hang_up(self) -> None:
        """Leave it, as our own death would: it stops at its next safe point, and its run may be requested again."""
        assert self._process.stdin is not None  # noqa: S101 for the type checker: stdin and stdout are pipes
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait_for_exit(self) -> tuple[int, str]:
        """Wait until it ends; returns its exit status and the last line of its error output (empty without one)."""
        self._process.wait()  # not `communicate`: that closes its input first, which means that we are gone
        self._close_pipes()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        return self._process.returncode, lines[-1] if lines else ""

    def kill_now(self) -> None:
        """Kill it at once, for a caller that must leave now. The database stays whole, its run ends as interrupted."""
        self._process.kill()

    def _send_line(self, line: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 for the type checker: stdin and stdout are pipes
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it has ended already, perhaps its pipe is closed; its run says how

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # noqa: S101 for the type checker: stdin and stdout are pipes
            with suppress(BrokenPipeError):  # what could not be sent to a child that was gone
                pipe.close()


def _spawn_child(errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "actions.runner.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # a Ctrl-C at the terminal is for the caller, which asks the child to stop
    )
