"""Alert rules, their unit tests and runbook, and the example configurations, by the tools of Prometheus itself."""

import json
import queue
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from actions.policy.matchers import parse_matchers
from collectors.target import Limits
from exporter.alert_rules.catalogue import alert_groups, all_alerts
from exporter.alert_rules.render import render_rule_file
from exporter.alert_rules.thresholds import THRESHOLDS, Threshold
from exporter.config.load import known_actions
from exporter.config.sizes import parse_duration, parse_level
from tests.support.checks.dashboard_check import load_rules, metrics_used
from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import free_addresses, run, running

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "grafana"
RULES_FILE = GRAFANA / "alerts" / "queuekeeper.yaml"
TESTS_FILES = [GRAFANA / "alerts" / name for name in ("queuekeeper_test.yaml", "queuekeeper_slow_test.yaml")]
EXAMPLE = ROOT / "exporter" / "config" / "example.yaml"
RUNBOOK = ROOT / "docs" / "runbook.md"
RULES = load_rules(RULES_FILE)
TESTS = [test for file in TESTS_FILES for test in yaml.safe_load(file.read_text())["tests"]]
NAMES = [rule["alert"] for rule in RULES]
real = pytest.mark.real


@real
def test_promtool_finds_nothing_to_complain_about_in_the_rules() -> None:
    result = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES_FILE)
    assert result.returncode == 0, result.stdout


@real
def test_every_rule_behaves_as_its_unit_test_says() -> None:
    result = run("promtool", "test", "rules", *TESTS_FILES)
    assert result.returncode == 0, result.stdout


def moved(threshold: Threshold) -> Threshold:
    """A bound so near that the sample lying on it, where nothing is wrong yet, is beyond it."""
    if threshold.name == "disk_soon":
        return replace(threshold, value=3600)
    step = 0.01 if threshold.unit == "ratio" else 1
    return replace(threshold, value=threshold.value + (step if threshold.below else -step))


@real
def test_the_unit_tests_notice_every_moved_threshold(tmp_path: Path) -> None:
    bounds = {name: moved(threshold) for name, threshold in THRESHOLDS.items()}
    (tmp_path / RULES_FILE.name).write_text(render_rule_file(alert_groups(bounds)))
    copies = [shutil.copy(file, tmp_path) for file in TESTS_FILES]
    result = run("promtool", "test", "rules", *copies)
    assert result.returncode == 1
    affected = {
        new.name for new, old in zip(all_alerts(bounds), all_alerts(), strict=True) if new.expression != old.expression
    }
    noticed = set(re.findall(r"alertname: ?(\w+)|ALERTS\{alertname=\"(\w+)\"", result.stdout))
    assert affected <= {name for pair in noticed for name in pair}


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_threshold_is_in_a_rule(name: str) -> None:
    bounds = {**THRESHOLDS, name: moved(THRESHOLDS[name])}
    assert all_alerts(bounds) != all_alerts()


@real
def test_the_example_of_prometheus_loads() -> None:
    result = run("promtool", "check", "config", GRAFANA / "prometheus.yml")
    assert result.returncode == 0, result.stdout
    assert f"{len(RULES)} rules found" in result.stdout


@real
def test_the_example_of_alertmanager_loads() -> None:
    result = run("amtool", "check-config", GRAFANA / "alertmanager.yml")
    assert result.returncode == 0, result.stdout


def test_the_example_for_a_newer_alertmanager_only_adds_what_an_older_one_refuses() -> None:
    older, newer = (
        yaml.safe_load((GRAFANA / name).read_text()) for name in ("alertmanager.yml", "alertmanager-current.yml")
    )
    assert newer["receivers"][1]["webhook_configs"][0].pop("timeout") == "5s"
    assert newer == older


def test_the_examples_of_alertmanager_name_alerts_that_exist() -> None:
    named = set(re.findall(r"Queue\w+", (GRAFANA / "alertmanager.yml").read_text()))
    assert named
    assert named <= set(NAMES)


@real
@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_alerts_go_to_people_and_those_that_can_be_remediated_to_queuekeeper_too(
    rule: dict[str, dict[str, str]],
) -> None:
    labels = [f"{name}={value}" for name, value in rule["labels"].items()]
    result = run(
        "amtool", "config", "routes", "test", f"--config.file={GRAFANA / 'alertmanager.yml'}", *labels,
        f"alertname={rule['alert']}",
    )  # fmt: skip
    expected = "queuekeeper,people" if "remediation" in rule["labels"] else "people"
    assert result.stdout.splitlines()[-1] == expected


def test_each_alert_has_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
class TestEachRule:
    def test_has_a_name_a_severity_and_a_hold(self, rule: dict[str, object]) -> None:
        assert re.fullmatch(r"Queue([A-Z][a-z]+)+", str(rule["alert"]))
        assert isinstance(rule["labels"], dict)
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["for"]

    def test_has_a_summary_that_does_not_change_while_it_fires(self, rule: dict[str, dict[str, str]]) -> None:
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert "$value" not in rule["annotations"]["summary"]

    def test_leads_to_its_own_section_of_the_runbook(self, rule: dict[str, dict[str, str]]) -> None:
        url, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert url == "https://github.com/queuekeeper/queuekeeper/blob/main/docs/runbook.md"
        assert anchor == str(rule["alert"]).lower()
        assert f"\n## {rule['alert']}\n" in RUNBOOK.read_text()

    def test_is_unit_tested_pending_firing_vanished_and_resolved(self, rule: dict[str, str]) -> None:
        cases = [each for each in TESTS if each["name"].partition(" ")[0] == rule["alert"]]
        assert cases, "no unit test"
        for case in cases:
            quiet, pending, vanished = case["promql_expr_test"]
            waiting, firing, resolved = case["alert_rule_test"]
            assert not quiet["exp_samples"]
            assert pending["exp_samples"]
            assert {sample["labels"].count('alertstate="pending"') for sample in pending["exp_samples"]} == {1}
            assert vanished["exp_samples"]
            assert (bool(waiting["exp_alerts"]), bool(firing["exp_alerts"]), bool(resolved["exp_alerts"])) == (
                False,
                True,
                False,
            )
            assert any("stale" in each["values"] for each in case["input_series"])

    def test_a_remediable_one_is_context_and_another_tells_people_later(self, rule: dict[str, object]) -> None:
        assert isinstance(rule["labels"], dict)
        if "remediation" not in rule["labels"]:
            return
        (alert,) = (each for each in all_alerts() if each.name == rule["alert"])
        page = next(each for each in RULES if each["alert"] == alert.page)
        assert rule["labels"]["severity"] == "info"
        assert rule["labels"]["remediation"] in known_actions()
        assert page["labels"]["severity"] in {"warning", "critical"}
        assert "remediation" not in page["labels"]
        later = minutes(page["for"]) > minutes(rule["for"])
        assert page["expr"] == rule["expr"] if page["alert"].endswith("NotRemediated") else metrics_alike(page, rule)
        assert later


def metrics_alike(one: dict[str, str], other: dict[str, str]) -> bool:
    return metrics_used(one["expr"]) == metrics_used(other["expr"])


def minutes(duration: object) -> int:
    number, unit = int(str(duration)[:-1]), str(duration)[-1]
    return number * {"m": 1, "h": 60, "d": 1440}[unit]


def test_the_runbook_has_no_section_for_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Queue\w+)$", RUNBOOK.read_text(), re.MULTILINE)) == set(NAMES)


def example_rules() -> list[dict[str, Any]]:
    """The example configuration's rules. All scalars stay texts: for YAML 1.1 the key `on` is true."""
    return list(yaml.load(EXAMPLE.read_text(), yaml.BaseLoader)["rules"])


def level(text: str) -> float:
    return float(text) if text.isdigit() else parse_level(text)


def test_the_example_has_a_rule_for_every_alert_that_can_be_remediated() -> None:
    found = {
        parse_matchers(text)[0].value: rule["do"] for rule in example_rules() for text in rule["on"].get("alert", ())
    }
    assert found == {alert.name: alert.remediation for alert in all_alerts() if alert.remediation}


def test_a_database_that_never_had_a_backup_gets_one_when_its_alert_would_fire() -> None:
    (rule,) = [each for each in example_rules() if each["name"] == "backup-never"]
    (alert,) = [each for each in all_alerts() if each.name == "QueueBackupNeverVerified"]
    assert parse_duration(rule["when"]["sqlite_backup_age_seconds"]["absent"]) == alert.hold


@pytest.mark.parametrize("rule", [each for each in example_rules() if "alert" in each["on"]], ids=lambda r: r["name"])
def test_the_example_acts_at_the_bound_and_after_the_time_of_its_alert(rule: dict[str, Any]) -> None:
    (alert,) = (each for each in all_alerts() if each.name == parse_matchers(rule["on"]["alert"][0])[0].value)
    ((metric, bound),) = rule["when"].items()
    assert parse_duration(rule["on"]["threshold"]["for"]) == alert.hold
    assert metric in metrics_used(alert.expression)
    if "where" in bound:  # a state: it holds, or not
        assert bound["above"] == "0"
        return
    (threshold,) = (
        each for each in THRESHOLDS.values() if each.metric == metric and each.value == level(bound["above"])
    )
    assert threshold.promql in alert.expression
    assert bound.get("clear") is None or level(bound["clear"]) == threshold.clear


def test_the_reserve_below_which_the_disk_is_full_is_the_one_that_actions_keep() -> None:
    assert THRESHOLDS["disk_full"].value == Limits().disk_reserve


@pytest.fixture
def webhook() -> Iterator[tuple[str, "queue.Queue[tuple[str, dict[str, object]]]"]]:
    """A receiver's `host:port` and what it got: the Authorization header and the payload."""
    got: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.put((f"{self.path} {self.headers.get('Authorization')}", json.loads(body)))
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


@real
def test_the_shipped_route_brings_a_remediable_alert_to_queuekeeper_with_its_token(
    tmp_path: Path, webhook: tuple[str, "queue.Queue[tuple[str, dict[str, object]]]"]
) -> None:
    address, got = webhook
    token = tmp_path / "token"
    token.write_text("secret-of-the-test")
    config = (GRAFANA / "alertmanager.yml").read_text()
    for shipped, here in {
        "127.0.0.1:9977": address,
        "/etc/prometheus/queuekeeper.token": str(token),
        "group_wait: 5s": "group_wait: 0s",
    }.items():
        assert shipped in config
        config = config.replace(shipped, here)
    base = {"instance": "a:9977", "database": "jobs", "queue": "mail", "job": "queuekeeper"}
    alerts = [
        {"labels": {"alertname": "QueueStaleLeases", "severity": "info", "remediation": "requeue", **base}},
        {"labels": {"alertname": "QueueStaleLeasesNotRemediated", "severity": "warning", **base}},
    ]
    shutil.copytree(GRAFANA / "alerts", tmp_path / "pair" / "alerts")
    with running(tmp_path / "pair", free_addresses(), (GRAFANA / "prometheus.yml").read_text(), config) as pair:
        httpx.post(f"{pair.alertmanager}/api/v2/alerts", json=alerts, timeout=LONGEST_WAIT).raise_for_status()
        header, payload = got.get(timeout=LONGEST_WAIT)
        told = {tuple(each["name"] for each in alert["receivers"]) for alert in pair.alerts()}
    assert header == "/api/v1/alerts Bearer secret-of-the-test"
    assert payload["groupLabels"] == {name: value for name, value in alerts[0]["labels"].items() if name in
                                      {"alertname", "instance", "database", "queue"}}  # fmt: skip
    assert told == {("people", "queuekeeper"), ("people",)} or told == {("queuekeeper", "people"), ("people",)}
    assert got.empty()
