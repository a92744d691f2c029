"""The real components that tests run against: finding them, and a fast Prometheus and Alertmanager on loopback.

Configuration texts come from the test, with the addresses that `free_addresses` gave. Everything a pair writes lies in
the test's folder; it is ended by the process ids that were started, also when starting fails.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
import pytest

from tests.support.patience import LONGEST_WAIT

UNPACKED = Path(__file__).resolve().parents[3] / ".real" / "usr" / "bin"
LOG_TAIL = 2000
T = TypeVar("T")


class RealPartError(AssertionError):
    """A real component did not start, or did not get where the test waited for it; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Loopback `host:port` of a pair, to be written into its configuration texts."""

    prometheus: str
    alertmanager: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A running Prometheus and, where it was given a configuration, an Alertmanager."""

    addresses: Addresses
    folder: Path

    @property
    def prometheus(self) -> str:
        """Base URL."""
        return f"http://{self.addresses.prometheus}"

    @property
    def alertmanager(self) -> str:
        """Base URL."""
        return f"http://{self.addresses.alertmanager}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query. Raises RealPartError with Prometheus's own words on a bad expression."""
        return list(query(self.prometheus, expression))

    def value(self, expression: str) -> float | None:
        """The first value of an instant query, None when the result is empty."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else None

    def alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager holds (API v2)."""
        return list(
            httpx.get(f"{self.alertmanager}/api/v2/alerts", timeout=LONGEST_WAIT, verify=False)
            .raise_for_status()
            .json()
        )

    def wait(self, check: Callable[[], T | None], what: str, timeout: float = LONGEST_WAIT) -> T:
        """`until`, and on failure the ends of both logs."""
        try:
            return until(check, what, timeout)
        except RealPartError as error:
            raise RealPartError(f"{error}\n{log_tails(self.folder)}") from error


def find(name: str) -> Path | None:
    """The program on PATH or unpacked beside the project; None when it is nowhere."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    return Path(found) if found else None


def required() -> bool:
    """Whether a missing component is a failure instead of a visible skip."""
    return os.environ.get("QK_REQUIRE_REAL") == "1" or os.environ.get("CI") == "true"


def require(name: str) -> Path:
    """The program, else this test is skipped, or fails where the real components are required."""
    place = find(name)
    return (
        place if place is not None else report_missing(f"{name} is neither on PATH nor in {UNPACKED}: run `make setup`")
    )


def report_missing(reason: str) -> NoReturn:
    """Skip this test, or fail it where the real components are required."""
    if required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A short command of a real component, both outputs in `stdout`."""
    command = [str(require(name)), *map(str, arguments)]
    return subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LONGEST_WAIT
    )


def free_addresses() -> Addresses:
    """Two loopback ports that were free a moment ago."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return Addresses(*(f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two)))


def until(check: Callable[[], T | None], what: str, timeout: float = LONGEST_WAIT) -> T:
    """The first true answer of `check`; a refused connection counts as no answer yet. Raises RealPartError."""
    end = time.monotonic() + timeout
    last: object = None
    while time.monotonic() < end:
        try:
            answer = check()
        except httpx.TransportError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        time.sleep(0.02)
    raise RealPartError(f"waited {timeout:g} s for {what}; last answer: {last!r}")


def query(base_url: str, expression: str) -> list[dict[str, Any]]:
    """The result of an instant query, a scalar as a series without labels. Raises RealPartError with its own words."""
    answer = httpx.post(
        f"{base_url}/api/v1/query", data={"query": expression}, timeout=LONGEST_WAIT, verify=False
    ).json()
    if answer["status"] != "success":
        raise RealPartError(f"{answer['errorType']}: {answer['error']} in {expression}")
    data = answer["data"]
    if data["resultType"] == "scalar":
        return [{"metric": {}, "value": data["result"]}]
    return list(data["result"])


@contextmanager
def running(folder: Path, addresses: Addresses, prometheus: str, alertmanager: str | None = None) -> Iterator[Pair]:
    """A pair with these configuration texts (None: no Alertmanager), ready to be asked.

    A first sample needs about five seconds more: Prometheus spreads the start of its scrapes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(addresses, folder)
    started: list[subprocess.Popen[bytes]] = []
    try:
        if alertmanager is not None:
            (folder / "alertmanager.yml").write_text(alertmanager)
            started.append(_start(folder, "prometheus-alertmanager", _alertmanager_flags(folder, addresses)))
        (folder / "prometheus.yml").write_text(prometheus)
        started.append(_start(folder, "prometheus", _prometheus_flags(folder, addresses)))
        bases = [pair.prometheus] if alertmanager is None else [pair.alertmanager, pair.prometheus]
        for base in bases:
            pair.wait(lambda base=base: _ready(base, started), f"{base} to be ready")  # type: ignore[misc]
        yield pair
    finally:
        _stop(started)


def log_tails(folder: Path) -> str:
    """The ends of the logs in a pair's folder."""
    return "\n".join(f"--- {log.name}\n{log.read_text()[-LOG_TAIL:]}" for log in sorted(folder.glob("*.log")))


def _alertmanager_flags(folder: Path, addresses: Addresses) -> list[str]:
    # An empty cluster address: no gossip, and no wait for it to settle.
    return [
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/alertmanager",
        f"--web.listen-address={addresses.alertmanager}",
        "--cluster.listen-address=",
        "--log.level=debug",
    ]


def _prometheus_flags(folder: Path, addresses: Addresses) -> list[str]:
    # `for` is not stretched after a start: minutes become fractions. An alert is valid for four times the resend delay:
    # on a busy machine Alertmanager must not take a late evaluation for the alert's end.
    return [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address={addresses.prometheus}",
        "--rules.alert.resend-delay=5s",
        "--rules.alert.for-grace-period=0s",
        "--rules.alert.for-outage-tolerance=0s",
        "--query.lookback-delta=30s",
        "--web.enable-lifecycle",
        "--log.level=warn",
    ]


def _start(folder: Path, name: str, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([require(name), *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _ready(base: str, started: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Whether it answers; an unknown flag or a bad configuration ends it at once, which is not waited for."""
    ended = [process for process in started if process.poll() is not None]
    if ended:
        folder = next(flag for flag in map(str, ended[0].args) if "config.file" in flag)  # type: ignore[arg-type]
        raise RealPartError(f"it ended with {ended[0].returncode} ({folder})")
    return httpx.get(f"{base}/-/ready", timeout=10, verify=False).status_code == httpx.codes.OK


def _stop(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(LONGEST_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(LONGEST_WAIT)
