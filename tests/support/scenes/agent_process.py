"""A real agent as a process: `python -m exporter.commands serve` on a configuration text, at the address it reports.

It is forked from a process that has loaded it already, unless a wrapper starts it.
One context holds one agent at a time; it can be stopped or killed and started again on the same folder, as after a
crash. What it logged lies in the folder's `agent.log`, and the end of it is in every failure.
"""

import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import httpx
from prometheus_client.parser import text_string_to_metric_families

from actions.store.database import history_file
from actions.store.runs import Run, newest_runs
from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import LOG_TAIL, RealPartError, until
from tests.support.scenes.forked_process import ForkedProcess, run_forked

PATIENCE = LONGEST_WAIT
COMMAND = (sys.executable, "-m", "exporter.commands")
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """One page, parsed: every sample by its name and labels."""

    samples: dict[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series, all labels given; None when it is absent."""
        return self.samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series of this name with at least these labels."""
        wanted = set(labels.items())
        return sum(value for (one, found), value in self.samples.items() if one == name and wanted <= found)

    def series(self, name: str) -> dict[Labels, float]:
        """All series of one name."""
        return {labels: value for (one, labels), value in self.samples.items() if one == name}


@dataclass(slots=True)
class AgentProcess:
    """An agent that runs, or ran, on the configuration in `folder`. Its state directory is `folder/state`.

    `options` are more of `serve`'s; `verify`: what its own TLS is checked by.
    """

    folder: Path
    wrapper: Sequence[str] = ()
    address: str = "127.0.0.1:0"
    options: Sequence[str] = ()
    verify: ssl.SSLContext | bool = False  # making a context costs more than a plain answer
    process: "subprocess.Popen[bytes] | ForkedProcess | None" = None
    url: str = ""
    logged: int = field(default=0)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "queuekeeper.yaml"

    @property
    def state(self) -> Path:
        """Where its history lives."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """What all its lives said."""
        return self.folder / "agent.log"

    def start(self, *, ready: bool = True) -> None:
        """Start it, again at the address of before, and wait until it answers (`ready`: until it is ready)."""
        assert self.process is None, "it runs already"
        address = self.url.partition("://")[2] or self.address
        self.logged = self.log.stat().st_size if self.log.exists() else 0
        options = [
            f"--config.file={self.config}",
            f"--web.listen-address={address}",
            "--log.format=json",
            *self.options,
        ]
        with self.log.open("ab") as log:
            self.process = self._serve(options, log.fileno())
        self.url = self.wait(self._listening, "the agent to listen")
        if ready:
            self.wait(lambda: self.get("/-/ready").is_success, "the agent to be ready")

    def _serve(self, options: Sequence[str], log: int) -> "subprocess.Popen[bytes] | ForkedProcess":
        if not self.wrapper:
            return ForkedProcess(
                "exporter.commands", "serve", *options, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        whole = [*self.wrapper, *COMMAND, "serve", *options]
        return subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> int:
        """End it as a service manager does; its exit status."""
        return self._end("terminate")

    def kill(self) -> int:
        """End it at once, without a chance to tidy up."""
        return self._end("kill")

    def get(self, path: str = "/metrics") -> httpx.Response:
        """An answer of it."""
        return httpx.get(self.url + path, timeout=LONGEST_WAIT, verify=self.verify)

    def scrape(self, *names: str) -> Scrape:
        """Its page now, or these families of it: much cheaper where it is looked at again and again."""
        wanted = "&".join(f"name[]={name}" for name in names)
        page = self.get(f"/metrics?{wanted}" if wanted else "/metrics").raise_for_status().text
        families = text_string_to_metric_families(page)
        return Scrape({(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples})

    def events(self, message: str) -> list[dict[str, Any]]:
        """The lines of the log with this message, of all its lives."""
        return [line for line in _lines(self.log.read_bytes()) if line.get("msg") == message]

    def runs(self, database: str | None = None) -> list[Run]:
        """What its history tells, oldest first. Needs no running agent."""
        with self._history() as connection:
            return list(reversed(newest_runs(connection, database, 1000)))

    def read_history(self, sql: str) -> list[Any]:
        """The rows of a query of its history."""
        with self._history() as connection:
            return connection.execute(sql).fetchall()

    @contextmanager
    def _history(self) -> Iterator[apsw.Connection]:
        connection = apsw.Connection(str(history_file(self.state)), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(5000)
            yield connection
        finally:
            connection.close()

    def wait(self, check: Any, what: str, timeout: float = PATIENCE) -> Any:
        """`until`, ending early when it dies, and with the end of its log in a failure."""
        try:
            return until(lambda: self._alive() and check(), what, timeout)
        except RealPartError as error:
            raise RealPartError(f"{error}\n--- agent.log\n{self.log.read_text()[-2 * LOG_TAIL :]}") from error

    def ended(self, number: int = 1) -> list[Run]:
        """Wait until so many runs have ended, and none is unfinished; the runs."""

        def all_ended() -> list[Run] | None:
            found = self.runs()
            return found if len(found) >= number and all(run.state == "ended" for run in found) else None

        return list(self.wait(all_ended, f"{number} runs to end"))

    def _alive(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            status = None if self.process is None else self.process.returncode
            raise RealPartError(f"the agent ended with {status}")
        return True

    def _listening(self) -> str | None:
        with self.log.open("rb") as log:
            log.seek(self.logged)
            found = [line for line in _lines(log.read()) if line.get("msg") == "listening"]
        return str(found[0]["address"]) if found else None

    def _end(self, how: str) -> int:
        assert self.process is not None, "it does not run"
        getattr(self.process, how)()
        try:
            return self.process.wait(PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None


@contextmanager
def agent(
    folder: Path,
    config: str,
    *,
    wrapper: Sequence[str] = (),
    address: str = "127.0.0.1:0",
    options: Sequence[str] = (),
    verify: ssl.SSLContext | bool = False,  # making a context costs more than a plain answer,
) -> Iterator[AgentProcess]:
    """An agent that is ready, on this configuration text with `FOLDER` replaced; ended at the end, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    made = AgentProcess(folder, wrapper, address, options, verify)
    made.config.write_text(config.replace("FOLDER", str(folder)))
    made.config.chmod(0o600)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None:
            with suppress(subprocess.TimeoutExpired):
                made.stop()


def command(agent: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of a person on the agent's databases, with the agent's history."""
    return run_forked("exporter.commands", *arguments, f"--config.file={agent.config}", timeout=LONGEST_WAIT)


def processes_of(folder: Path) -> list[tuple[int, str]]:
    """Every living process that has this folder in its command line: (number, command line)."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = re.sub(r"^.*\) ", "", (place / "stat").read_text(), flags=re.DOTALL)[0]
        except OSError:
            continue  # it ended while we looked
        if str(folder) in line and state != "Z":
            found.append((int(place.name), line.strip()))
    return found


def _lines(content: bytes) -> list[dict[str, Any]]:
    found = []
    for line in content.splitlines():
        with suppress(ValueError):  # a traceback, or a line that is being written
            parsed = json.loads(line)
            found.append(parsed if isinstance(parsed, dict) else {"text": parsed})
    return found
