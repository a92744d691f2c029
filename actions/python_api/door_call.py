"""One call of the Python API: an action through the door, in a child, its outcome turned into a result or an error."""

import threading
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from actions.model.outcome import EXIT_CODES, Outcome
from actions.model.request import Option, Request
from actions.runner.manual import run_manually
from actions.store.database import StoreUnavailable
from actions.store.runs import Run
from collectors.target import Target

# Threads of one process wait for each other; other processes meet the action lock and get `locked`.
_turns: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
_turns_guard = threading.Lock()


def call(
    target: Target, action: str, options: Mapping[str, Option], error: type[Exception], also: Collection[Outcome] = ()
) -> Run:
    """Perform the action by hand. Raises `error` with one sentence for every outcome that is no success, nor in `also`."""
    assert target.state is not None  # noqa: S101 the API gives every target a state directory
    with _turns_guard:
        turn = _turns[target.path]
    with turn:
        try:
            ended = run_manually(target, target.state, Request(action, target.name, options=options))
        except StoreUnavailable as trouble:
            raise error(str(trouble)) from trouble
    outcome = Outcome(ended.outcome or Outcome.INTERRUPTED)
    if EXIT_CODES[outcome] != 0 and outcome not in also:
        raise error(f"{ended.message} ({ended.next_step})" if ended.next_step else ended.message)
    return ended
