"""The dashboards by their files alone."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from dashboard_check import COMING, Json, expressions, load_dashboard, load_rules, metrics_used, panels, static_findings

ROOT = Path(__file__).resolve().parent.parent
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
RULES = load_rules(ROOT / "grafana" / "alerts" / "queuekeeper.yaml")
# Prometheus makes these itself.
PROMETHEUS_OWN = {"up", "ALERTS"}


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Json:
    return load_dashboard(request.param)


def declared_names() -> set[str]:
    from collectors.registry import COLLECTORS
    from exporter.own_metrics import METRICS

    return {metric.name for collector in COLLECTORS for metric in collector.METRICS} | {each.name for each in METRICS}


def dashboard_metrics() -> set[str]:
    return {
        name for path in DASHBOARDS for each in expressions(load_dashboard(path)) for name in metrics_used(each.text)
    }


def built(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "grafana.build", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)


def test_the_committed_files_are_the_generated_ones() -> None:
    result = built("--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_files_have_no_fault_that_can_be_seen_without_a_server(dashboard: Json) -> None:
    assert static_findings(dashboard) == []


def test_variables_lead_from_the_data_source_to_the_database(dashboard: Json) -> None:
    variables = dashboard["templating"]["list"]
    assert [each["name"] for each in variables] == ["datasource", "job", "instance", "database"]
    queried = variables[1:]
    assert all(each["multi"] and each["includeAll"] and each["refresh"] == 2 for each in queried)
    for before, each in pairwise(queried):
        assert f"${before['name']}" in each["query"]["query"]


def test_every_panel_says_what_good_looks_like(dashboard: Json) -> None:
    silent = [panel["title"] for panel in panels(dashboard) if "Good:" not in panel["description"]]
    assert silent == ["Acting"]  # a fact about the configuration, neither good nor bad


def test_links_of_panels_lead_to_alerts_that_exist(dashboard: Json) -> None:
    anchors = {rule["alert"].lower() for rule in RULES}
    linked = {link["url"].partition("#")[2] for panel in panels(dashboard) for link in panel["links"]}
    assert linked
    assert linked <= anchors


@pytest.mark.parametrize(
    ("title", "alert"),
    [
        ("Oldest backup", "QueueBackupTooOld"),
        ("WAL backlog", "QueueWalBacklogNotRemediated"),
        ("WAL held back, by program", "QueueWalPinned"),
        ("Free disk space", "QueueDiskLow"),
        ("Oldest waiting task", "QueueTasksWaitingLong"),
        ("Age of the last reading", "QueuePollStalled"),
    ],
)
def test_colours_change_where_the_alert_does(title: str, alert: str) -> None:
    bounds = {
        "QueueBackupTooOld": 49 * 3600,
        "QueueWalBacklogNotRemediated": 64 * 1024 * 1024,
        "QueueWalPinned": 600,
        "QueueDiskLow": 0.1,
        "QueueTasksWaitingLong": 3600,
        "QueuePollStalled": 300,
    }
    overview = load_dashboard(ROOT / "grafana" / "dashboards" / "overview.json")
    panel = next(each for each in panels(overview) if each["title"] == title)
    assert [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [None, bounds[alert]]


def test_dashboards_use_only_metrics_that_are_declared() -> None:
    assert dashboard_metrics() - declared_names() - PROMETHEUS_OWN == set()


def test_rules_use_only_metrics_that_are_declared() -> None:
    used = {name for rule in RULES for name in metrics_used(rule["expr"])}
    assert used - declared_names() - PROMETHEUS_OWN - COMING == set()
