"""The checker finds what was broken on purpose, and the dashboards and rules answer a real Prometheus."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.checks.dashboard_check import (
    Finding,
    live_findings,
    load_dashboard,
    load_rules,
    metrics_used,
    panels,
    rule_findings,
    static_findings,
    substituted,
)
from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import Pair, free_addresses, require, running, until
from tests.support.scenes import exposition_page

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
# The one that the tests below break.
DATABASE = load_dashboard(ROOT / "grafana" / "dashboards" / "database.json")
PINNED = "WAL held back, by program"
# Nothing fires on a healthy page.
SILENT = {"ALERTS", "ALERTS_FOR_STATE"}
RULES = ROOT / "grafana" / "alerts" / "queuekeeper.yaml"


def broken() -> dict[str, Any]:
    """A copy to be broken."""
    return copy.deepcopy(dict(DATABASE))


def titled(dashboard: dict[str, Any], title: str) -> Any:
    return next(panel for panel in panels(dashboard) if panel["title"] == title)


def whats(findings: list[Finding], where: str) -> str:
    return " | ".join(each.what for each in findings if each.where == where)


@pytest.fixture(scope="module")
def served() -> Iterator[exposition_page.Page]:
    with exposition_page.served() as page:
        yield page


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, served: exposition_page.Page) -> Iterator[Pair]:
    """Prometheus with the shipped rules, evaluated all the time, and the page as its only target."""
    require("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "rules.yaml").write_text(RULES.read_text().replace("interval: 30s", "interval: 200ms"))
    config = f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 200ms}}
rule_files: [rules.yaml]
scrape_configs:
- job_name: queuekeeper
  static_configs: [{{targets: ['{served.address}']}}]
"""
    with running(folder, free_addresses(), config) as pair:
        # Two samples of every counter: an increase needs them.
        pair.wait(lambda: (pair.value("count_over_time(sqlite_up[1m])") or 0) >= 3, "three scrapes")
        yield pair


def rule_states(pair: Pair) -> dict[str, str]:
    """The state of every alert, once every rule was evaluated without an error."""
    answer = httpx.get(f"{pair.prometheus}/api/v1/rules", timeout=LONGEST_WAIT).json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []
    return {rule["name"]: rule["state"] for rule in rules if rule["health"] == "ok"}


class TestAgainstARealPrometheus:
    pytestmark = pytest.mark.real

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_every_query_of_the_shipped_dashboards_answers(self, prometheus: Pair, path: Path) -> None:
        found = live_findings(prometheus.prometheus, load_dashboard(path), SILENT)
        assert "\n".join(f"{each.where}: {each.what}" for each in found) == ""

    def test_every_selector_of_the_shipped_rules_matches(self, prometheus: Pair) -> None:
        assert rule_findings(prometheus.prometheus, load_rules(RULES)) == []

    def test_a_healthy_page_raises_no_alert_and_a_sick_one_raises_every_one(
        self, prometheus: Pair, served: exposition_page.Page
    ) -> None:
        names = {rule["alert"] for rule in load_rules(RULES)}
        # A scrape that a loaded machine missed is a reason for a moment: what must come is a page without any.
        prometheus.wait(
            lambda: rule_states(prometheus) == dict.fromkeys(names, "inactive"),
            "all rules evaluated, none with a reason",
        )
        served.values = exposition_page.WRONG
        # What says that the exporter is gone has no reason while its page is served.
        expected = names - {"QueueExporterDown", "QueueExporterAbsent"}
        try:
            until(
                lambda: {name for name, state in rule_states(prometheus).items() if state != "inactive"} == expected,
                "every alert to have a reason",
            )
        finally:
            served.values = {}

    def test_a_misspelled_metric_is_empty(self, prometheus: Pair) -> None:
        dashboard = broken()
        titled(dashboard, "WAL backlog")["targets"][0]["expr"] = (
            'sqlite_wal_backlog_byte{job=~"$job", instance=~"$instance"}'
        )
        found = live_findings(prometheus.prometheus, dashboard)
        assert [each.where for each in found] == ["WAL backlog"]
        assert "empty" in found[0].what

    def test_a_matcher_on_a_value_that_nothing_has_is_empty(self, prometheus: Pair) -> None:
        dashboard = broken()
        target = titled(dashboard, "Waiting tasks")["targets"][0]
        target["expr"] = target["expr"].replace('state="waiting"', 'state="ready"')
        assert "empty" in whats(live_findings(prometheus.prometheus, dashboard), "Waiting tasks")

    def test_a_legend_label_that_the_answer_lacks_is_named(self, prometheus: Pair) -> None:
        dashboard = broken()
        titled(dashboard, "Tasks by state")["targets"][0]["legendFormat"] = "{{state}} of {{queue}}"
        found = live_findings(prometheus.prometheus, dashboard)
        assert found == [Finding("Tasks by state", "the legend's label queue is not in the answer")]

    def test_a_column_that_no_line_can_fill_is_named(self, prometheus: Pair) -> None:
        dashboard = broken()
        table = titled(dashboard, "What it is")
        table["transformations"][1]["options"]["renameByName"]["owner"] = "Owner"
        found = live_findings(prometheus.prometheus, dashboard)
        assert found == [Finding("What it is", "the column's label owner is not in the answer")]

    def test_an_expression_that_only_the_server_can_refuse_is_found(self, prometheus: Pair) -> None:
        dashboard = broken()
        target = titled(dashboard, "Backups kept")["targets"][0]
        target["expr"] = (
            'sqlite_backups{job=~"$job", instance=~"$instance"}'
            ' / on (job) sqlite_backups{job=~"$job", instance=~"$instance"}'
        )
        assert static_findings(dashboard) == []
        assert "matching" in whats(live_findings(prometheus.prometheus, dashboard), "Backups kept")

    def test_a_variable_without_a_value_is_reported_before_all_that_it_empties(self, prometheus: Pair) -> None:
        dashboard = broken()
        variable = next(each for each in dashboard["templating"]["list"] if each["name"] == "database")
        variable["query"]["query"] = 'label_values(sqlite_down{job=~"$job"}, database)'
        found = live_findings(prometheus.prometheus, dashboard)
        assert [each.where for each in found] == ["variable database", "variable queue"]

    def test_what_may_be_empty_must_still_be_valid(self, prometheus: Pair) -> None:
        dashboard = broken()
        panel = titled(dashboard, PINNED)
        panel["targets"][0]["expr"] = 'sqlite_nothing{job=~"$job", instance=~"$instance"}'
        assert live_findings(prometheus.prometheus, dashboard, {"sqlite_nothing"}) == []
        panel["targets"][0]["expr"] += " + ("
        assert "parse error" in whats(
            live_findings(prometheus.prometheus, dashboard, {"sqlite_nothing"}), panel["title"]
        )

    @pytest.mark.parametrize(
        "expression",
        ["sqlite_wal_backlog_byte > 1", 'sqlite_wal_state{state="starved"} == 1', 'sqlite_up == 0 and up{job="other"}'],
    )
    def test_a_rule_that_could_never_fire_is_found(self, prometheus: Pair, expression: str) -> None:
        found = rule_findings(prometheus.prometheus, [{"alert": "Silent", "expr": expression}])
        assert [each.where for each in found] == ["Silent"]


def no_unit(panel: Any) -> None:
    del panel["fieldConfig"]["defaults"]["unit"]


def no_description(panel: Any) -> None:
    panel["description"] = ""


def wrong_variable(panel: Any) -> None:
    panel["targets"][0]["expr"] = panel["targets"][0]["expr"].replace("$database", "$db")


def fixed_data_source(panel: Any) -> None:
    panel["targets"][0]["datasource"] = {"type": "prometheus", "uid": "prometheus"}


def fixed_window(panel: Any) -> None:
    panel["targets"][0]["expr"] = 'max_over_time(sqlite_up{job=~"$job", instance=~"$instance"}[5m])'


def bare_counter(panel: Any) -> None:
    panel["targets"][0]["expr"] = 'queuekeeper_webhook_requests_total{job=~"$job", instance=~"$instance"}'


def no_job(panel: Any) -> None:
    panel["targets"][0]["expr"] = 'sqlite_up{instance=~"$instance"}'


def not_promql(panel: Any) -> None:
    panel["targets"][0]["expr"] = "sum(sqlite_up"


def moved(panel: Any) -> None:
    panel["gridPos"]["x"] -= 1


def outside(panel: Any) -> None:
    panel["gridPos"] |= {"x": 20, "y": 500}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (no_unit, "no unit"),
        (no_description, "no description"),
        (wrong_variable, "unknown variable $db"),
        (fixed_data_source, "fixed data source"),
        (fixed_window, "a fixed window"),
        (bare_counter, "without rate or increase"),
        (no_job, "without a matcher for job"),
        (not_promql, "not PromQL"),
        (moved, "overlaps WAL state"),
        (outside, "leaves the grid"),
    ],
)
def test_a_broken_panel_is_caught_from_the_file_alone(fault: Any, expected: str) -> None:
    dashboard = broken()
    fault(titled(dashboard, PINNED))
    assert expected in whats(static_findings(dashboard), PINNED)


def test_an_id_used_twice_is_caught() -> None:
    dashboard = broken()
    first, second = titled(dashboard, "File sizes"), titled(dashboard, "WAL backlog")
    second["id"] = first["id"]
    assert f"panel id {first['id']} is missing or used twice" in whats(static_findings(dashboard), dashboard["title"])


def test_a_dashboard_that_can_be_edited_is_caught() -> None:
    assert "is editable" in whats(static_findings(broken() | {"editable": True}), DATABASE["title"])


def test_variables_are_replaced_in_all_their_spellings() -> None:
    text = 'x{a="$job", b="${job}", c="${job:regex}", d="$jobs"}[$__rate_interval]'
    assert substituted(text, {"job": "q"}) == 'x{a="q", b="q", c="q", d="$jobs"}[1m]'


def test_metrics_are_found_in_every_corner_of_an_expression() -> None:
    expression = (
        'sum by (a) (rate(b_total{job=~"$job"}[$__rate_interval])) / on (a) -max(c) unless absent(d) > e offset 5m'
    )
    assert metrics_used(expression) == {"b_total", "c", "d", "e"}
