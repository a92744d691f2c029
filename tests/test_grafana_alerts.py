"""Alert rules, their unit tests and runbook, and the example configurations, by the tools of Prometheus itself."""

import json
import queue
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from dashboard_check import load_rules
from real_parts import free_addresses, run, running

ROOT = Path(__file__).resolve().parent.parent
GRAFANA = ROOT / "grafana"
RULES_FILE = GRAFANA / "alerts" / "queuekeeper.yaml"
TESTS_FILE = GRAFANA / "alerts" / "queuekeeper_test.yaml"
RUNBOOK = ROOT / "docs" / "runbook.md"
RULES = load_rules(RULES_FILE)
NAMES = [rule["alert"] for rule in RULES]
real = pytest.mark.real


@real
def test_promtool_finds_nothing_to_complain_about_in_the_rules() -> None:
    result = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES_FILE)
    assert result.returncode == 0, result.stdout


@real
def test_every_rule_behaves_as_its_unit_test_says() -> None:
    result = run("promtool", "test", "rules", TESTS_FILE)
    assert result.returncode == 0, result.stdout


@real
def test_the_unit_tests_notice_a_changed_threshold(tmp_path: Path) -> None:
    rules, bound = RULES_FILE.read_text(), "sqlite_queue_stale_leases > 0"
    assert bound in rules
    (tmp_path / RULES_FILE.name).write_text(rules.replace(bound, "sqlite_queue_stale_leases > 3"))
    tests = yaml.safe_load(TESTS_FILE.read_text())
    tests["tests"] = [test for test in tests["tests"] if test["name"].startswith("QueueStaleLeases")]
    (tmp_path / TESTS_FILE.name).write_text(yaml.safe_dump(tests))
    result = run("promtool", "test", "rules", tmp_path / TESTS_FILE.name)
    assert result.returncode == 1
    assert "QueueStaleLeases" in result.stdout


@real
def test_the_example_of_prometheus_loads() -> None:
    result = run("promtool", "check", "config", GRAFANA / "prometheus.yml")
    assert result.returncode == 0, result.stdout
    assert f"{len(RULES)} rules found" in result.stdout


@real
def test_the_example_of_alertmanager_loads() -> None:
    result = run("amtool", "check-config", GRAFANA / "alertmanager.yml")
    assert result.returncode == 0, result.stdout


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
        cases = [each for each in yaml.safe_load(TESTS_FILE.read_text())["tests"] if each["name"] == rule["alert"]]
        assert cases, "no unit test"
        steps = [step for case in cases for step in case["alert_rule_test"]]
        pending = [
            sample
            for case in cases
            for step in case["promql_expr_test"]
            for sample in step["exp_samples"]
            if 'alertstate="pending"' in sample["labels"]
        ]
        assert {step["alertname"] for step in steps} == {rule["alert"]}
        assert pending
        assert any(step["exp_alerts"] for step in steps), "never fires"
        assert not steps[0]["exp_alerts"], "fires at once"
        assert not steps[-1]["exp_alerts"], "never resolves"
        assert any("stale" in each["values"] for case in cases for each in case["input_series"]), "no vanished series"

    def test_a_remediable_one_is_context_and_has_a_twin_that_tells_people_later(self, rule: dict[str, object]) -> None:
        assert isinstance(rule["labels"], dict)
        if "remediation" not in rule["labels"]:
            return
        twin = next(each for each in RULES if each["alert"] == f"{rule['alert']}NotRemediated")
        assert rule["labels"]["severity"] == "info"
        assert rule["labels"]["remediation"] in {"requeue", "checkpoint"}
        assert twin["labels"] == {"severity": "warning"}
        assert twin["expr"] == rule["expr"]
        assert minutes(twin["for"]) > minutes(rule["for"])


def minutes(duration: object) -> int:
    number, unit = int(str(duration)[:-1]), str(duration)[-1]
    return number * {"m": 1, "h": 60, "d": 1440}[unit]


def test_the_runbook_has_no_section_for_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Queue\w+)$", RUNBOOK.read_text(), re.MULTILINE)) == set(NAMES)


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
        httpx.post(f"{pair.alertmanager}/api/v2/alerts", json=alerts, timeout=5).raise_for_status()
        header, payload = got.get(timeout=10)
        told = {tuple(each["name"] for each in alert["receivers"]) for alert in pair.alerts()}
    assert header == "/api/v1/alerts Bearer secret-of-the-test"
    assert payload["groupLabels"] == {name: value for name, value in alerts[0]["labels"].items() if name in
                                      {"alertname", "instance", "database", "queue"}}  # fmt: skip
    assert told == {("people", "queuekeeper"), ("people",)} or told == {("queuekeeper", "people"), ("people",)}
    assert got.empty()
