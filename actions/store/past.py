"""What history knows of one action on one database, for deciding whether to hear a wish."""

import apsw

from actions.policy.cooldown import ActionHistory
from actions.store.recent_runs import last_counted_end
from actions.store.runs import unfinished_run_id
from actions.store.suspensions import load_suspension


def load_action_history(history: apsw.Connection, database: str, action: str) -> ActionHistory:
    """What has been, at this moment."""
    return ActionHistory(
        last_ended=last_counted_end(history, database, action),
        unfinished_run=unfinished_run_id(history, database, action),
        suspension=load_suspension(history, database, action),
    )
