"""What history knows of one action on one database, for deciding whether to hear a wish."""

import apsw

from actions.history.last_runs import last_ended
from actions.history.runs import busy_run
from actions.history.standing_rows import standing
from actions.policy.admission import Past


def past(history: apsw.Connection, database: str, action: str) -> Past:
    """What has been, at this moment."""
    return Past(
        last_ended=last_ended(history, database, action),
        busy=busy_run(history, database, action),
        standing=standing(history, database, action),
    )
