"""The demo's props: a private folder, the application's processes, the agent. All gone when it ends."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.demo.others import create_others
from exporter.demo.queue import create

CONFIG = """\
databases:
  - name: jobs
    path: {folder}/jobs.db
    settings: {{grace: 2s}}
    backup: {{directory: {folder}/backups}}
  - path: {folder}/others/*.sqlite
poll: {{interval: 1s}}
actions:
  enabled: true
  allow: {{token_files: [{folder}/token]}}
rules:
  - name: wal-backlog
    when: {{sqlite_wal_backlog_bytes: {{above: 3MiB, clear: 1MiB}}}}
    on: {{threshold: {{for: 1s}}}}
    do: checkpoint
    cooldown: 12s
  - name: stale-leases
    when: {{sqlite_queue_stale_leases: {{above: 0}}}}
    on: {{threshold: {{for: 1s}}, alert: ['alertname="QueueStaleLeases"']}}
    do: requeue
    options: {{guarded: true, limit: 500}}
    cooldown: 5s
state: {folder}/state
"""


@dataclass(slots=True)
class Stage:
    """What is on stage. `port` is where the agent listens."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def database(self) -> Path:
        """The application's queue."""
        return self.folder / "jobs.db"

    @property
    def config(self) -> Path:
        """The agent's configuration."""
        return self.folder / "queuekeeper.yaml"

    @property
    def url(self) -> str:
        """Where the agent answers."""
        return f"http://127.0.0.1:{self.port}"

    def play(self, role: str) -> subprocess.Popen[str]:
        """Start one process of the application."""
        return self._start(["exporter.demo.application", str(self.database), role], subprocess.PIPE)

    def start_agent(self) -> subprocess.Popen[str]:
        """Start queuekeeper as an operator would."""
        address = f"--web.listen-address=127.0.0.1:{self.port}"
        arguments = ["exporter.commands", "serve", "--config.file", str(self.config), address]
        with (self.folder / "agent.log").open("w") as log:
            return self._start(arguments, None, log.fileno())

    def get(self, path: str) -> str:
        """An answer of the agent. Raises OSError while it is not up."""
        with urllib.request.urlopen(self.url + path, timeout=2) as answer:  # noqa: S310 our own loopback address
            return str(answer.read().decode())

    def _start(self, arguments: list[str], output: int | None, errors: int | None = None) -> subprocess.Popen[str]:
        with undisturbed():
            process = subprocess.Popen(  # noqa: S603 our own interpreter and modules, no shell
                [sys.executable, "-I", "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                text=True,
                process_group=0,  # Ctrl-C is for the demo alone: it ends the others in order
            )
            self.processes.append(process)
        return process


def leave(process: subprocess.Popen[str]) -> None:
    """Let one process of the application end."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait(10)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: a process that is started but not yet known, or half of a clean-up, would stay behind."""
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, lambda found, _: arrived.append(found))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage in a private temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="queuekeeper-demo-"))
    props = Stage(folder, _free_port())
    try:
        create(props.database)
        create_others(folder / "others")
        _write_private(folder / "token", secrets.token_hex(16))
        _write_private(props.config, CONFIG.format(folder=folder))
        yield props
    finally:
        with undisturbed():
            _clear(props)
            shutil.rmtree(folder, ignore_errors=True)


def _clear(props: Stage) -> None:
    for process in props.processes:
        process.terminate()
    for process in props.processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
