"""The pictures show the dashboards as they are; test_demo.py compares what they show with what the demo tells."""

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.checks.dashboard_check import load_dashboard
from tests.support.checks.documents import ROOT, link_targets
from tests.support.checks.drawn import FACTS, PICTURES, Story, differences, quoted, story

NAMES = sorted(file.name for file in PICTURES.glob("*.png"))
TITLES = {
    path.stem: [panel["title"] for panel in load_dashboard(path)["panels"]]
    for path in (ROOT / "grafana" / "dashboards").glob("*.json")
}
# What a demo tells when everything it can show happens.
TOLD = """\
   4.2 s  a person: queuekeeper status -> exit 0
   4.2 s      jobs: it has no verified backup; do: queuekeeper backup jobs
   4.2 s      mail: ok
   4.2 s      notes: /tmp/x/notes.sqlite is no SQLite database, or it is encrypted; do: take it out of databases:
   5.8 s  /metrics: sqlite_wal_state is pinned, sqlite_wal_backlog_bytes 3870720 (3.7 MiB)
   6.9 s  Prometheus: the alert QueueWalBacklog fires; Alertmanager passes it on to queuekeeper's webhook
   7.4 s  queuekeeper: 2026-11-25 22:53:44Z #1 jobs checkpoint: blocked in 223 ms, effect blocked (53 -> 54); alert of rule \
wal-backlog, sqlite_wal_backlog_bytes above 3145728, alert d4d1b235f35ea445/1: a reader holds the WAL
  22.3 s  queuekeeper: 2026-11-25 22:53:56Z #4 jobs backup: done in 172 ms; asked by a person: backed up to /tmp/x.db
"""


def test_every_picture_is_of_the_drawing_that_the_facts_are_of() -> None:
    assert sorted(FACTS["pictures"]) == NAMES
    for name in NAMES:
        content = hashlib.sha256((PICTURES / name).read_bytes()).hexdigest()
        assert content == FACTS["pictures"][name]["sha256"], f"{name}: {REDRAW}"


REDRAW = "draw again: python -m grafana.draw.draw"


def test_every_panel_of_every_dashboard_is_in_a_picture() -> None:
    drawn: dict[str, list[str]] = {}
    for name, picture in FACTS["pictures"].items():
        board = re.split(r"[-.]", name)[0]
        drawn.setdefault(board, []).extend(title for title in picture["panels"] if title not in drawn.get(board, ()))
    assert {board: sorted(set(titles)) for board, titles in drawn.items()} == {
        board: sorted(set(titles)) for board, titles in TITLES.items()
    }, REDRAW


def test_the_pictures_are_shown_and_their_maker_is_named() -> None:
    page = PICTURES / "README.md"
    assert sorted(link for link in link_targets(page) if link.endswith(".png")) == NAMES
    assert "not by a Grafana" in page.read_text()
    assert all(Path(name).stat().st_size < 300_000 for name in PICTURES.glob("*.png"))


def test_a_story_is_read_from_what_the_demo_tells() -> None:
    assert story(TOLD) == Story(
        databases=frozenset({"jobs", "mail", "notes"}),
        unreadable=frozenset({"notes"}),
        states=frozenset({"pinned"}),
        actions=frozenset({("checkpoint", "blocked"), ("backup", "done")}),
        effects=frozenset({("wal-backlog", "blocked")}),
        alerts=frozenset({"QueueWalBacklog"}),
    )


def shown(**changes: Any) -> dict[str, Any]:
    """Facts of pictures that show what TOLD tells, with something changed."""
    facts = {
        "databases": {"jobs": "prismq", "mail": "laravel-database", "notes": ""}, "unreadable": ["notes"],
        "wal_states": ["idle", "pinned"], "actions": [["backup", "done"], ["checkpoint", "blocked"]],
        "effects": [["wal-backlog", "blocked"]], "alerts": ["QueueDatabaseDown", "QueueWalBacklog"],
    }  # fmt: skip
    return copy.deepcopy(facts) | changes


def test_pictures_that_show_the_story_differ_in_nothing() -> None:
    assert differences(story(TOLD), shown()) == []


SCENE = "  30.0 s  queuekeeper: 2026-11-25 22:53:59Z #9 jobs analyze: done in 17 ms; asked by a person: gathered\n"


@pytest.mark.parametrize(
    ("told", "facts", "expected"),
    [
        (TOLD + SCENE, shown(), "the demo tells of action analyze done"),
        (TOLD.replace("mail", "mails"), shown(), "the demo tells of database mails"),
        (TOLD, shown(alerts=[]), "the demo tells of alert QueueWalBacklog"),
        (TOLD, shown(effects=[]), "the demo tells of effect wal-backlog blocked"),
        (TOLD, shown(wal_states=["idle"]), "the demo tells of state pinned"),
        (TOLD, shown(unreadable=[]), "the demo tells of unreadable notes"),
        (TOLD, shown(actions=[*shown()["actions"], ["vacuum", "done"]]), "the pictures show action vacuum done"),
        (TOLD, shown(databases=shown()["databases"] | {"old": ""}), "the pictures show database old"),
    ],
)  # fmt: skip
def test_a_scene_that_only_one_of_them_has_is_found(told: str, facts: dict[str, Any], expected: str) -> None:
    assert expected in differences(story(told), facts)


def test_the_facts_are_written_as_json_that_people_can_compare() -> None:
    text = (PICTURES / "drawn.json").read_text()
    assert text == json.dumps(FACTS, indent=1, sort_keys=True) + "\n"


@pytest.mark.parametrize(
    ("line", "is_in_it"),
    [
        ("   9.9 s  /metrics: sqlite_wal_state is pinned, sqlite_wal_backlog_bytes 1 (1 MiB)", True),
        ("  17.4 s  queuekeeper: ... #2 jobs checkpoint: blocked in 9 ms, effect blocked ... a reader holds ...", True),
        ("   5.8 s  /metrics: sqlite_wal_state is idle, ...", False),
        ("  17.4 s  queuekeeper: ... #2 jobs checkpoint: done in 9 ms, ...", False),
    ],
)
def test_a_quotation_is_true_but_for_its_numbers_and_dots(line: str, is_in_it: bool) -> None:
    assert bool(re.search(quoted(line), TOLD)) == is_in_it


def test_the_label_inside_the_pictures_names_the_components_that_drew_them() -> None:
    draw = ROOT / "grafana" / "draw"
    version = json.loads((draw / "package.json").read_text())["dependencies"]["@grafana/ui"]
    assert (
        f"drawn with @grafana/ui {version} in headless Chromium, not by a Grafana server"
        in (draw / "page.jsx").read_text()
    )
    assert f"{version}, headless Chromium" in (PICTURES / "README.md").read_text()
