"""The child of an action as a bare process, for tests that are worse callers than any of ours: deaf, dead, late, foreign.

Nothing here goes through `actions.runner.spawn`: what a test does to the pipes and signals is what the child gets. It is
started, not forked: a test that looks for what is left over finds its processes by the environment they began with.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from actions.model.events import Event, decode_event
from actions.model.request import Request
from actions.model.stop import StopSignal
from actions.runner.protocol import Job, encode_job
from actions.store.database import state_store
from actions.store.recovery import recover_lost_runs
from actions.store.runs import Run, enqueue_and_claim, load_run, unfinished_runs
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from tests.support.patience import LONGEST_WAIT

COMMAND = (sys.executable, "-I", "-m", "actions.runner.child")
PATIENCE = LONGEST_WAIT


def claimed(target: Target, action: str, request: Request | None = None, **options: Any) -> Job:
    """A job whose run is recorded and claimed by this process, as a command does."""
    assert target.state is not None
    wish = request or Request(action, target.name, options=options)
    with state_store(target.state) as store:
        return Job(wish, target, target.state, enqueue_and_claim(store, wish, str(target.path), time.time()))


def plan_only(target: Target, action: str, **options: Any) -> Job:
    """A job that ends after its plan."""
    assert target.state is not None
    return Job(Request(action, target.name, options=options), target, target.state, None)


def start(
    job: Job | bytes,
    stdout: int | IO[bytes] = subprocess.PIPE,
    command: Sequence[str] = COMMAND,
    preexec_fn: Callable[[], object] | None = None,
) -> subprocess.Popen[bytes]:
    """A child that has its job (or any other line)."""
    how: Any = {"preexec_fn": preexec_fn}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, **how)
    assert child.stdin is not None
    child.stdin.write(job if isinstance(job, bytes) else encode_job(job))
    child.stdin.flush()
    return child


def say(child: subprocess.Popen[bytes], word: bytes) -> None:
    """Tell it something."""
    assert child.stdin is not None
    child.stdin.write(word)
    child.stdin.flush()


def hang_up(child: subprocess.Popen[bytes]) -> None:
    """Close its input: what the caller's death does."""
    assert child.stdin is not None
    child.stdin.close()


def wait_for(child: subprocess.Popen[bytes], kind: str) -> Event:
    """Read its events up to the first of this kind."""
    assert child.stdout is not None
    for line in child.stdout:
        event = decode_event(line)
        if event.kind == kind:
            return event
    raise AssertionError(f"it ended without {kind!r}: {child.stderr.read().decode() if child.stderr else ''}")


def finish(child: subprocess.Popen[bytes]) -> tuple[int, list[Event], str]:
    """Let it end by itself with its input open; (exit status, the rest of its events, its error output)."""
    assert child.stdout is not None
    assert child.stderr is not None
    events = [decode_event(line) for line in child.stdout]
    errors = child.stderr.read().decode()
    status = child.wait(PATIENCE)
    close(child)
    return status, events, errors


def close(child: subprocess.Popen[bytes]) -> None:
    """End it and its pipes."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def record(job: Job) -> Run:
    """The run of a job as history tells it."""
    assert job.claim is not None
    with state_store(job.state) as store:
        return load_run(store, job.claim.run_id)


def left_unfinished(state: Path) -> list[Run]:
    """What is claimed or running."""
    with state_store(state) as store:
        return unfinished_runs(store)


def recovered(state: Path, raw: RawReader) -> list[Run]:
    """End what is lost, as the next agent's start does."""
    with state_store(state) as store:
        return recover_lost_runs(store, lambda path: raw.find_flock_holder(Path(path)) is not None, time.time())


def slow(target: Target) -> Target:
    """The same with a budget so small that a requeue moves one task a transaction: long, with a safe point at each."""
    return replace(target, limits=replace(target.limits, write_lock=1e-9))


def state_letter(pid: int) -> str:
    """The kernel's state letter of a process; empty when it is gone. Z: dead, and not yet reaped by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def lives(pid: int) -> bool:
    """Whether a process runs: neither gone nor a zombie."""
    return state_letter(pid) not in ("", "Z", "X")


def eventually(check: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true answer of a check on something that has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        StopSignal().wait_for_stop(0.005)
    return found
