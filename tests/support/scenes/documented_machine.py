"""A machine as the documents suppose it, in a folder, with a queue on it: what documents tell to type is typed there."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time

from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import UNPACKED, free_addresses, until
from tests.support.scenes import prismq

# Connected, and idle until its input ends.
APPLICATION = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("SELECT 1 FROM task_queue").fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as the documents suppose it, in a folder: what they call /var/lib/app lies in FOLDER/var/lib/app."""

    folder: Path
    agent: str

    def here(self, text: str) -> str:
        """The text with its places moved into the folder, and the agent's address."""
        places = re.sub(r"/(?:var/(?:lib|backups)|etc)/\w+|/tmp/look", lambda found: f"{self.folder}{found[0]}", text)
        return places.replace("127.0.0.1:9977", self.agent)

    def edit(self, file: Path) -> None:
        """What a person does to a configuration: its paths become this machine's."""
        file.write_text(self.here(file.read_text()))

    @property
    def environment(self) -> dict[str, str]:
        """Our command and the real parts on PATH, a home of its own."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{UNPACKED}"
        return {**os.environ, "PATH": path, "HOME": str(self.folder), "XDG_STATE_HOME": str(self.folder / ".state")}

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The script by bash, in a folder that all scripts share; a failing line ends it.

        On a machine too busy to look into the kernel's lock table in time a command says so: that is no fault of a document.
        """
        made: list[subprocess.CompletedProcess[str]] = []

        def answered() -> bool:
            made.append(self._once(script, environment))
            return "gave no answer within" not in made[-1].stderr

        until(answered, f"the machine to have time for {script!r}")
        return made[-1]

    def _once(self, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(script)], cwd=self.folder / "work", check=False, timeout=LONGEST_WAIT,
            env={**self.environment, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def machine_with_a_queue(folder: Path) -> Iterator[Machine]:
    """Five waiting tasks, and two whose worker died an hour ago; the application is connected."""
    made = Machine(folder, free_addresses().prometheus)
    for place in ("var/lib/app", "var/backups/queues", "etc/queuekeeper", "var/lib/queuekeeper", "tmp", "work"):
        (made.folder / place).mkdir(parents=True)
    path = made.folder / "var/lib/app/queue.db"
    queue = prismq.create(path)
    # So that the runbook's incremental vacuum has something to take.
    queue.owner.execute("PRAGMA auto_vacuum=INCREMENTAL; VACUUM").fetchall()
    queue.put(number=5)
    queue.leased(time() - 3600, 2)
    with subprocess.Popen(
        [sys.executable, "-c", APPLICATION, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == b"ready\n"
        queue.owner.close()
        yield made


@contextmanager
def serving(machine: Machine, command: str) -> Iterator[None]:
    """What a document tells to start, at the machine's address, once it is ready."""
    line = [*shlex.split(machine.here(command), comments=True), f"--web.listen-address={machine.agent}"]
    with (machine.folder / "agent.log").open("w") as log:
        process = subprocess.Popen(line, cwd=machine.folder / "work", env=machine.environment, stderr=log)
    try:
        until(lambda: not machine.run(f"curl -fsS {machine.agent}/-/ready").returncode, "the agent to be ready")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LONGEST_WAIT)
