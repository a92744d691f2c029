"""What does a scrape of many databases cost, beside what a user would pick instead?

Each exporter is started on the same fleet in turn, waited for until one page holds every database, scraped back to back,
then scraped while one database in a hundred changes at each interval, and while all of them change at once.

    python bench/scrape.py [--databases 1000] [--peers naive,query-exporter] [--query-exporter PYTHON] [--journal wal]
"""

import argparse
import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from processes import cpu_seconds, memory_mib, percentile

HERE = Path(__file__).parent
INTERVAL = 15.0
PATIENCE = 180.0
OWNED_BY_ONE = 5000  # three open files each
MARKER = "sqlite_pages"


@dataclass(frozen=True)
class Exporter:
    """One column. `marker`: the family that every database must have. `ready`: what answers 200 as soon as all are there."""

    name: str
    command: list[str]
    marker: str
    ready: str = "/metrics"


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started ends with us
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="queuekeeper-bench-"))
    try:
        _run(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    fleet = folder / "fleet"
    subprocess.run([sys.executable, HERE / "fleet.py", fleet, str(arguments.databases), arguments.journal], check=True)
    rows = []
    for exporter in _exporters(arguments, folder, fleet):
        with owner(fleet, arguments.databases) as application:
            row = measure(exporter, arguments, application, folder)
        print(json.dumps(row), flush=True)
        rows.append(row)
    print()
    show(rows)


def _exporters(arguments: argparse.Namespace, folder: Path, fleet: Path) -> Iterator[Exporter]:
    yield Exporter("queuekeeper", agent_command(written_config(folder, fleet)), MARKER, "/-/ready")
    if "naive" in arguments.peers:
        yield Exporter("naive", [sys.executable, str(HERE / "peers/naive.py"), str(fleet), "{port}"], "q_page_count")
    if "query-exporter" in arguments.peers and Path(arguments.query_exporter or "/none").exists():
        settings = folder / "query-exporter.yaml"
        writer = [sys.executable, str(HERE / "peers/query_exporter_config.py"), str(fleet), str(settings)]
        subprocess.run([*writer, f"{INTERVAL:.0f}"], check=True)
        program = str(Path(arguments.query_exporter).with_name("query-exporter"))
        options = ["-H", "127.0.0.1", "-p", "{port}", "-L", "error", "--config", str(settings)]
        yield Exporter("query-exporter", [program, *options], "q_page_count")


def written_config(folder: Path, fleet: Path) -> Path:
    """A configuration that watches the fleet."""
    config = folder / "queuekeeper.yaml"
    config.write_text(
        f"databases: [{{path: '{fleet}/q*.db'}}]\npoll: {{interval: {INTERVAL:g}s}}\nstate: {folder}/state\n"
    )
    return config


def agent_command(config: Path) -> list[str]:
    """The agent; `{port}` stands for its port."""
    address = "--web.listen-address=127.0.0.1:{port}"
    serve = [sys.executable, "-m", "exporter.commands", "serve", "--config.file", str(config), address]
    return [*serve, "--log.level=error"]


@contextmanager
def owner(fleet: Path, databases: int) -> Iterator[list["subprocess.Popen[str]"]]:
    """The application, in as many processes as it needs: keeps the databases open and commits where it is told to."""
    command = [sys.executable, str(HERE / "fleet.py"), str(fleet)]
    with ExitStack() as stack:
        processes = []
        for first in range(0, databases, OWNED_BY_ONE):
            share = [str(min(OWNED_BY_ONE, databases - first)), "own", str(first)]
            started = subprocess.Popen([*command, *share], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(started))
            stack.callback(_close, started)
        for process in processes:
            _answer_of(process)
        yield processes


def change(application: list["subprocess.Popen[str]"], number: int) -> None:
    """One commit in so many databases."""
    shares = [number // len(application) + (at < number % len(application)) for at in range(len(application))]
    for process, share in zip(application, shares, strict=True):
        assert process.stdin is not None
        process.stdin.write(f"{share}\n")
        process.stdin.flush()
    for process in application:
        _answer_of(process)


def _answer_of(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit("the application could not open its databases")


def _close(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()


def measure(
    exporter: Exporter, arguments: argparse.Namespace, application: list["subprocess.Popen[str]"], folder: Path
) -> dict[str, object]:
    port = free_port()
    command = [part.replace("{port}", str(port)) for part in exporter.command]
    with (folder / f"{exporter.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        row: dict[str, object] = {"exporter": exporter.name, "databases": arguments.databases}
        row["first complete page s"] = round(_until_complete(process, port, exporter, arguments.databases), 2)
        time.sleep(INTERVAL)
        row |= _back_to_back(process.pid, port, arguments.scrapes)
        row |= _while_changing(process.pid, port, application, arguments)
        row["RSS MiB"] = round(memory_mib(process.pid), 1)
        return row
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _until_complete(process: subprocess.Popen[bytes], port: int, exporter: Exporter, databases: int) -> float:
    """Until one page holds all. Whole pages are not asked for again and again where something cheaper says when."""
    began = time.monotonic()
    patience = max(PATIENCE, databases / 20)
    while time.monotonic() - began < patience:
        with suppress(OSError):
            if page_of(port, exporter.ready)[0] == 200 and has_all(scrape(port)[1], exporter.marker, databases):
                return time.monotonic() - began
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}")
        time.sleep(0.05)
    raise SystemExit(f"no complete page within {patience:g} s")


def _back_to_back(pid: int, port: int, scrapes: int) -> dict[str, object]:
    times, page = [], b""
    began = cpu_seconds(pid)
    for _ in range(scrapes):
        took, page = scrape(port)
        times.append(took)
        if sum(times) > 60:
            break
    used = cpu_seconds(pid) - began
    zipped, packed = [], b""
    for _ in range(5):
        took, packed = scrape(port, "gzip")
        zipped.append(took)
    return {
        "p50 ms": round(percentile(times, 0.5) * 1000, 1),
        "p99 ms": round(percentile(times, 0.99) * 1000, 1),
        "p50 ms gzip": round(percentile(zipped, 0.5) * 1000, 1),
        "CPU s a scrape": round(used / len(times), 4),
        "samples": sum(not line.startswith(b"#") for line in page.splitlines()),
        "bytes": len(page),
        "bytes gzip": len(packed),
        "plain when unzipped": gzip.decompress(packed).count(b"\n") if packed[:2] == b"\x1f\x8b" else 0,
    }


def _while_changing(
    pid: int, port: int, application: list["subprocess.Popen[str]"], arguments: argparse.Namespace
) -> dict[str, object]:
    """One in a hundred changes at each interval; then all at once, which is polled during the scrapes."""
    began, used = time.monotonic(), cpu_seconds(pid)
    quiet: list[float] = []
    for _ in range(arguments.intervals):
        change(application, max(1, arguments.databases // 100))
        quiet.append(scrape(port)[0])
        time.sleep(INTERVAL)
    share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
    change(application, arguments.databases)
    busy: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < 1.2 * INTERVAL:
        busy.append(scrape(port)[0])
        time.sleep(0.02)
    return {
        "p50 ms, 1 % changes": round(percentile(quiet, 0.5) * 1000, 1),
        "CPU % of a core, 1 % changes": round(100 * share, 1),
        "p50 ms, all change": round(percentile(busy, 0.5) * 1000, 1),
        "p99 ms, all change": round(percentile(busy, 0.99) * 1000, 1),
    }


def has_all(page: bytes, marker: str, databases: int) -> bool:
    """Whether every database has a line of this family."""
    return page.count(f"\n{marker}{{".encode()) >= databases


def page_of(port: int, path: str) -> tuple[int, bytes]:
    """(status, body) of a GET. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def scrape(port: int, encoding: str = "identity") -> tuple[float, bytes]:
    """(seconds, body as it came)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    began = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": encoding})
    body = connection.getresponse().read()
    connection.close()
    return time.perf_counter() - began, body


def show(rows: list[dict[str, object]]) -> None:
    names = [str(row["exporter"]) for row in rows]
    print(f"| load {os.getloadavg()[0]:.1f} | " + " | ".join(names) + " |")
    print("| --- |" + " ---: |" * len(rows))
    for figure in rows[0]:
        if figure != "exporter":
            print(f"| {figure} | " + " | ".join(str(row[figure]) for row in rows) + " |")


def free_port() -> int:
    """Returns a free port of this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", type=int, default=1000)
    parser.add_argument("--scrapes", type=int, default=100)
    parser.add_argument("--intervals", type=int, default=4, help="how many intervals of 1 %% changes")
    parser.add_argument("--journal", default="wal", choices=("wal", "delete"))
    parser.add_argument("--peers", default="naive,query-exporter")
    parser.add_argument("--query-exporter", help="the Python of an environment that has query-exporter")
    return parser.parse_args()


if __name__ == "__main__":
    main()
