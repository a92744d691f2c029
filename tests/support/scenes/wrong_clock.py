"""The child of an action whose clock is wrong: `time.time` is replaced before anything of ours is imported.

The kernel lets no test set the clock of one process alone (a time namespace has only the monotonic ones).
"""

import sys

from actions.store.run_rows import Run
from collectors.target import Target
from tests.support.scenes import runner_child

_CODE = """
import sys, time
true_time, asked = time.time, []
def wrong_time():
    asked.append(0)
    return {clock}
time.time = wrong_time
from actions.runner.child import main
sys.exit(main())
"""


def act_at_clock(target: Target, action: str, clock: str, **options: object) -> Run:
    """Perform a run under a clock that returns this expression, of `true_time()` and the list of calls `asked`."""
    job = runner_child.claimed(target, action, **options)
    child = runner_child.start(job, command=(sys.executable, "-I", "-c", _CODE.format(clock=clock)))
    runner_child.finish(child)
    return runner_child.record(job)
