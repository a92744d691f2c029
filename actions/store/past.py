"""What history knows of one action on one database, for deciding whether to hear a wish."""

import apsw

from actions.policy.cooldown import Past
from actions.store.recent_runs import last_ended
from actions.store.runs import busy_run
from actions.store.suspensions import standing


def past(history: apsw.Connection, database: str, action: str) -> Past:
    """What has been, at this moment."""
    return Past(
        last_ended=last_ended(history, database, action),
        busy=busy_run(history, database, action),
        standing=standing(history, database, action),
    )
