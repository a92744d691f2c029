"""What the pictures show, in words: docs/pictures/drawn.json, which a test compares with what the demo tells."""

import hashlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
FILE = "drawn.json"


def query_facts(prometheus: str, end: int, seconds: int) -> Json:
    """What Prometheus (its URL) saw within the time that is drawn."""

    def query_labels(expression: str, *labels: str) -> list[list[str]]:
        question = urllib.parse.urlencode({"query": expression, "time": end})
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?{question}") as answer:
            series = json.load(answer)["data"]["result"]
        return sorted([each["metric"].get(label, "") for label in labels] for each in series)

    within = f"[{seconds}s]"
    profiles = f"max by (database, profile) (max_over_time(sqlite_info{within}))"
    wal_states = f"max by (state) (max_over_time(sqlite_wal_state{within})) == 1"
    return {
        "databases": dict(query_labels(profiles, "database", "profile")),
        "unreadable": [name for (name,) in query_labels("sqlite_up == 0", "database")],
        "wal_states": [state for (state,) in query_labels(wal_states, "state")],
        "actions": query_labels("sum by (action, outcome) (queuekeeper_action_runs_total) > 0", "action", "outcome"),
        "triggers": query_labels("sum by (action, trigger) (queuekeeper_action_triggers_total) > 0", "action", "trigger"),
        "effects": query_labels("sum by (rule, effect) (queuekeeper_remediation_effect_total) > 0", "rule", "effect"),
        "alerts": [
            name
            for (name,) in query_labels(
                f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}{within}))', "alertname"
            )
        ],
    }  # fmt: skip


def panel_titles(board: Json, lines: tuple[int, int]) -> list[str]:
    """The panels of a dashboard between two lines of its grid."""
    return [each["title"] for each in board["panels"] if is_within_lines(each, lines)]


def is_within_lines(panel: Json, lines: tuple[int, int]) -> bool:
    """Whether it is wholly between these lines."""
    top = panel["gridPos"]["y"]
    return bool(lines[0] <= top and top + panel["gridPos"]["h"] <= lines[1])


def write_facts(folder: Path, what: Json, pictures: Iterable[tuple[Path, list[str]]]) -> None:
    """Write the facts into the folder of the pictures, each of which is named with its content and its panels."""
    drawn = {
        picture.name: {"sha256": hashlib.sha256(picture.read_bytes()).hexdigest(), "panels": panels}
        for picture, panels in pictures
    }
    (folder / FILE).write_text(json.dumps({**what, "pictures": drawn}, indent=1, sort_keys=True) + "\n")
