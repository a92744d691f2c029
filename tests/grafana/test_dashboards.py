"""The dashboards by their files alone."""

import copy
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from exporter.alert_rules.thresholds import THRESHOLDS
from tests.support.checks.dashboard_check import (
    Json,
    expressions,
    load_dashboard,
    load_rules,
    metrics_used,
    panels,
    static_findings,
)
from tests.support.patience import LONGEST_WAIT

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
RULES = load_rules(ROOT / "grafana" / "alerts" / "queuekeeper.yaml")
# Prometheus makes these itself.
PROMETHEUS_OWN = {"up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds", "scrape_samples_scraped"}
TAG = "queuekeeper"


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Json:
    return load_dashboard(request.param)


def declared_names() -> set[str]:
    from collectors.registry import COLLECTORS
    from exporter.exposition.self_metrics import METRICS

    return {metric.name for collector in COLLECTORS for metric in collector.METRICS} | {each.name for each in METRICS}


def dashboard_metrics() -> set[str]:
    return {
        name for path in DASHBOARDS for each in expressions(load_dashboard(path)) for name in metrics_used(each.text)
    }


def built(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "grafana.build", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=LONGEST_WAIT)


def test_the_committed_files_are_the_generated_ones() -> None:
    result = built("--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_files_have_no_fault_that_can_be_seen_without_a_server(dashboard: Json) -> None:
    assert static_findings(dashboard) == []


def test_there_is_a_dashboard_for_all_databases_for_one_and_for_queuekeeper_itself() -> None:
    assert {path.stem: load_dashboard(path)["uid"] for path in DASHBOARDS} == {
        "overview": "queuekeeper-overview",
        "database": "queuekeeper-database",
        "itself": "queuekeeper-agent",
    }


def test_variables_lead_from_the_data_source_to_the_queue(dashboard: Json) -> None:
    chain = ["datasource", "job", "instance", "database", "queue"]
    length = {"queuekeeper-overview": 4, "queuekeeper-database": 5, "queuekeeper-agent": 3}[dashboard["uid"]]
    variables = dashboard["templating"]["list"]
    assert [each["name"] for each in variables] == chain[:length]
    queried = variables[1:]
    assert all(each["refresh"] == 2 for each in queried)
    one = {"database"} if dashboard["uid"] == "queuekeeper-database" else set()
    assert {each["name"] for each in queried if not (each["multi"] and each["includeAll"])} == one
    for before, each in pairwise(queried):
        assert f"${before['name']}" in each["query"]["query"]


def test_every_variable_is_used(dashboard: Json) -> None:
    texts = [each.text for each in expressions(dashboard)]
    for variable in dashboard["templating"]["list"][1:]:
        assert any(f"${variable['name']}" in text for text in texts), variable["name"]


def test_dashboards_lead_to_each_other_and_to_the_runbook(dashboard: Json) -> None:
    ours, runbook = dashboard["links"]
    assert (ours["type"], ours["tags"], ours["includeVars"], ours["keepTime"]) == ("dashboards", [TAG], True, True)
    assert TAG in dashboard["tags"]
    assert runbook["url"].endswith("/docs/runbook.md")


def test_the_line_of_a_database_leads_to_its_dashboard() -> None:
    overview = load_dashboard(ROOT / "grafana" / "dashboards" / "overview.json")
    table = next(each for each in panels(overview) if each["title"] == "Databases")
    properties = {o["matcher"]["options"]: o["properties"] for o in table["fieldConfig"]["overrides"]}
    (links,) = [each["value"] for each in properties["Database"] if each["id"] == "links"]
    assert links[0]["url"].startswith("/d/queuekeeper-database?")
    assert "var-database=${__data.fields.Database}" in links[0]["url"]


def test_the_model_of_grafana_reads_them_without_a_loss(dashboard: Json) -> None:
    """What the typed model of Grafana's own schema does not know would be dropped; annotations of Prometheus excepted."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    read = json.loads(json.dumps(Dashboard.from_json(copy.deepcopy(dict(dashboard))), cls=JSONEncoder))
    without = {key: value for key, value in dashboard.items() if key != "annotations"}
    assert {key: value for key, value in read.items() if key != "annotations"} == without


def test_every_panel_says_what_good_looks_like(dashboard: Json) -> None:
    silent = [panel["title"] for panel in panels(dashboard) if "Good:" not in panel["description"]]
    assert silent == []


def test_links_of_panels_lead_to_alerts_that_exist(dashboard: Json) -> None:
    anchors = {rule["alert"].lower() for rule in RULES}
    linked = {link["url"].partition("#")[2] for panel in panels(dashboard) for link in panel.get("links", ())}
    assert linked
    assert linked <= anchors


COLOURED = {
    "Oldest backup": "backup_age",
    "Backup age": "backup_age",
    "Largest backlog": "wal",
    "WAL backlog": "wal",
    "WAL held back, by program": "pinned",
    "Free and scattered pages": "free_ratio",
    "Free disk space": "disk_low",
    "Least free disk": "disk_low",
    "Longest wait": "waiting",
    "Oldest waiting": "waiting",
    "Oldest waiting task": "waiting",
    "First in line unchanged": "head",
    "Stale leases": "stale_leases",
    "Last drill": "drill_age",
    "Age of the last drill": "drill_age",
    "Age of the last reading": "poll_age",
}
# Whether it is so or not: no bound that an alert has.
YES_OR_NO = {"Databases down", "Failed actions", "Suspended", "Collectors failing"}


def test_colours_change_where_the_alert_does(dashboard: Json) -> None:
    for panel in panels(dashboard):
        steps = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        if len(steps) > 1 and panel["title"] not in YES_OR_NO:
            bound = THRESHOLDS[COLOURED[panel["title"]]]
            assert steps == [None, bound.value + (bound.unit == "count")], panel["title"]


# Declared, and deliberately on no dashboard and in no rule: its age is shown, which is the same for a person.
NEITHER = {"sqlite_backup_last_success_timestamp_seconds"}


def test_every_declared_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    in_rules = {name for rule in RULES for name in metrics_used(rule["expr"])}
    shown = {name.removesuffix("_bucket") for name in dashboard_metrics()}
    assert declared_names() - in_rules - shown == NEITHER


def test_dashboards_use_only_metrics_that_are_declared() -> None:
    shown = {name.removesuffix("_bucket") for name in dashboard_metrics()}
    assert shown - declared_names() - PROMETHEUS_OWN == set()


def test_rules_use_only_metrics_that_are_declared() -> None:
    used = {name for rule in RULES for name in metrics_used(rule["expr"])}
    assert used - declared_names() - PROMETHEUS_OWN == set()
