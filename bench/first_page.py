"""How long until the first page holds every database, and where does the time go?

    python bench/first_page.py [--databases 1000] [--rounds 3] [--journal wal]

Each round measures, on files that lie in the page cache and that their application has open:
the floor: a bare Python that opens every file read-only, runs the statements of our poll, and closes it, one after the other;
the agent: from the start of its process until it listens, has polled all, has answered with a page that holds all;
its parts, in CPU seconds of one process that does them one after the other.
Seconds of a busy machine say little: compare with the floor of the same round.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from processes import cpu_seconds
from scrape import MARKER, agent_command, free_port, has_all, owner, page_of, written_config

HERE = Path(__file__).parent
PATIENCE = 300.0
FLOOR = """
import glob, json, sys, time
began, used = time.monotonic(), time.process_time()
import apsw
from collectors.queue_profiles.holder_liveness import register_function
flags, statements = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, json.load(sys.stdin)
for path in sorted(glob.glob(sys.argv[1])):
    connection = apsw.Connection(f"file:{path}?mode=ro", flags=flags)
    register_function(connection)
    for sql, values in statements:
        connection.execute(sql, values).fetchall()
    connection.close()
print(time.monotonic() - began, time.process_time() - used)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--journal", default="wal", choices=("wal", "delete"))
    parser.add_argument("--parts", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.parts is not None:
        print(json.dumps(parts(given.parts)))
        return
    folder = Path(tempfile.mkdtemp(prefix="queuekeeper-bench-"))
    try:
        fleet = folder / "fleet"
        make = [sys.executable, HERE / "fleet.py", fleet, str(given.databases), given.journal]
        subprocess.run(make, check=True)
        with owner(fleet, given.databases):
            rounds = [one_round(folder / str(number), fleet, given.databases) for number in range(given.rounds)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(rounds, given.databases)


def one_round(folder: Path, fleet: Path, databases: int) -> dict[str, float]:
    folder.mkdir()
    row = {"load": os.getloadavg()[0]}
    row |= floor(fleet) | agent(folder, fleet, databases)
    command = [sys.executable, __file__, "--parts", str(fleet)]
    row |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)
    return row


def floor(fleet: Path) -> dict[str, float]:
    """Wall and CPU of the bare Python."""
    statements = json.dumps(statements_of_a_poll(fleet / "q00000.db"))
    command = [sys.executable, "-I", "-c", FLOOR, str(fleet / "q*.db")]
    done = subprocess.run(command, input=statements, check=True, capture_output=True, text=True)
    wall, used = map(float, done.stdout.split())
    return {"floor s": wall, "floor CPU s": used}


def statements_of_a_poll(path: Path) -> list[tuple[str, dict[str, object]]]:
    """What the first poll of a database runs, in a child that has no other business with it."""
    code = (
        "import json, sys, time, apsw; from pathlib import Path; from collectors.poll_if_changed import poll_if_changed\n"
        "from collectors.raw_reader.client import RawReader; from collectors.target import Target\n"
        "found, target, raw = [], Target('a', Path(sys.argv[1])), RawReader()\n"
        "poll_if_changed(target, None, time.time(), raw)  # to find out what queue it is takes some more\n"
        "note = lambda cursor, sql, values: found.append((sql, dict(values or {}))) or True\n"
        "apsw.connection_hooks.append(lambda connection: setattr(connection, 'exec_trace', note))\n"
        "poll_if_changed(target, None, time.time(), raw); raw.close(); print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    return [(sql, values) for sql, values in json.loads(done.stdout)]


def agent(folder: Path, fleet: Path, databases: int) -> dict[str, float]:
    """Seconds from the start of the process, and the CPU seconds that it and the raw reader used until then."""
    port, row = free_port(), {}
    command = [word.replace("{port}", str(port)) for word in agent_command(written_config(folder, fleet))]
    began = time.monotonic()
    with serving(command) as process:
        for name, path, enough in (
            ("listens s", "/-/healthy", lambda status, _: status == 200),
            ("all polled s", "/-/ready", lambda status, _: status == 200),
            ("first complete page s", "/metrics", lambda _, page: has_all(page, MARKER, databases)),
        ):
            wait(process, port, path, enough)
            row[name] = time.monotonic() - began
        return row | {"CPU s until then": cpu_seconds(process.pid)}


@contextmanager
def serving(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def wait(process: "subprocess.Popen[bytes]", port: int, path: str, enough: object) -> None:
    assert callable(enough)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError):
            if enough(*page_of(port, path)):
                return
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}")
        time.sleep(0.01)
    raise SystemExit(f"{path}: not within {PATIENCE:g} s")


def parts(fleet: Path) -> dict[str, float]:
    """CPU seconds of one process that does what the agent does, one after the other, and of its raw reader."""
    began = time.process_time()
    import exporter.commands.serve  # noqa: F401
    from collectors.poll_if_changed import poll_if_changed
    from collectors.raw_reader.client import RawReader
    from collectors.registry import COLLECTORS
    from collectors.target import Target
    from exporter.agent import relax_garbage_collection
    from exporter.exposition.line_cache import LineCache
    from exporter.exposition.self_metrics import METRICS, poll_samples

    imported = time.process_time() - began
    relax_garbage_collection()
    targets = [Target(path.stem, path) for path in sorted(fleet.glob("q*.db"))]
    raw, asked, polled, snapshots = RawReader(), 0.0, 0.0, []
    for at in range(0, len(targets), 8):
        began = time.process_time()
        raw.prefetch_surveys([target.path for target in targets[at : at + 8]])
        asked += time.process_time() - began
        began = time.process_time()
        snapshots += [poll_if_changed(target, None, time.time(), raw) for target in targets[at : at + 8]]
        polled += time.process_time() - began
    reader = cpu_seconds(raw.pid or 0)
    raw.close()
    began = time.process_time()
    text = LineCache(metric.name for metric in (*METRICS, *(m for one in COLLECTORS for m in one.METRICS)))
    text.set_page_parts(tuple(target.name for target in targets))
    for one in snapshots:
        text.update_page_part(
            one.target.name, [(one.target.name, s) for s in (*poll_samples(one, stale=False), *one.samples)]
        )
    written = time.process_time() - began
    return {
        "import CPU s": imported,
        "raw reader's CPU s": reader,
        "asking it CPU s": asked,
        "polls CPU s": polled,
        "lines CPU s": written,
    }


def show(rounds: list[dict[str, float]], databases: int) -> None:
    """Prints the best of the rounds: other load on the machine only adds time."""
    print(f"\n| {databases} databases, best of {len(rounds)} rounds | |\n| --- | ---: |")
    for name in rounds[0]:
        print(f"| {name} | {min(row[name] for row in rounds):.2f} |")
    ratios = [row["polls CPU s"] / row["floor CPU s"] for row in rounds]
    print(f"| polls / floor, CPU of the same round | {min(ratios):.2f} to {max(ratios):.2f} |")


if __name__ == "__main__":
    main()
