"""Prometheus and Alertmanager on loopback, where this machine has them: then their alerts trigger the healing.

They use the shipped alert rules with thresholds for a small queue and with seconds instead of minutes, and keep everything
in the demo's folder.
"""

import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from exporter.alert_rules.catalogue import JOB, all_alerts
from exporter.alert_rules.render import rule_entry
from exporter.alert_rules.thresholds import override_thresholds

ALERTS = ("QueueWalBacklog", "QueueStaleLeases")
START_TIMEOUT, QUERY_TIMEOUT = 60.0, 20.0  # generous: a busy machine answers late
_ALERTMANAGER_NAMES = ("prometheus-alertmanager", "alertmanager")  # Debian's, and the project's own

_PROMETHEUS = """\
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{alertmanager}']}}]}}]}}
scrape_configs:
  - {{job_name: {job}, static_configs: [{{targets: ['{agent}']}}]}}
"""
_ALERTMANAGER = """\
route:
  receiver: queuekeeper
  group_by: [alertname, database, queue]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 2s
receivers:
  - name: queuekeeper
    webhook_configs:
      - url: http://{agent}/api/v1/alerts
        http_config: {{authorization: {{type: Bearer, credentials_file: {token}}}}}
"""


@dataclass(frozen=True, slots=True)
class DemoMonitoring:
    """Where the two programs are, and where they listen, `host:port`."""

    prometheus: str
    alertmanager: str
    prometheus_address: str
    alertmanager_address: str


def find_monitoring_programs() -> tuple[str, str] | None:
    """The programs `prometheus` and `alertmanager` on PATH; None unless both are there."""
    alertmanager = next(filter(None, map(shutil.which, _ALERTMANAGER_NAMES)), None)
    prometheus = shutil.which("prometheus")
    return None if prometheus is None or alertmanager is None else (prometheus, alertmanager)


def monitoring_commands(of: DemoMonitoring, folder: Path, agent: str) -> Iterator[tuple[str, list[str]]]:
    """(name, command line) of each, its configuration written. `agent`: where the agent listens, `host:port`."""
    own = folder / "monitoring"
    own.mkdir(mode=0o700)
    (own / "rules.yml").write_text(_alert_rules(), "utf-8")
    words = {"agent": agent, "alertmanager": of.alertmanager_address, "job": JOB, "token": folder / "token"}
    (own / "prometheus.yml").write_text(_PROMETHEUS.format(**words), "utf-8")
    (own / "alertmanager.yml").write_text(_ALERTMANAGER.format(**words), "utf-8")
    yield "alertmanager", [
        of.alertmanager, f"--config.file={own}/alertmanager.yml", f"--storage.path={own}/alertmanager",
        f"--web.listen-address={of.alertmanager_address}", "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    yield "prometheus", [
        of.prometheus, f"--config.file={own}/prometheus.yml", f"--storage.tsdb.path={own}/tsdb",
        f"--web.listen-address={of.prometheus_address}", "--rules.alert.resend-delay=5s",
        "--rules.alert.for-grace-period=0s", "--log.level=warn",
    ]  # fmt: skip


def wait_until_ready(of: DemoMonitoring, alive: Callable[[], bool]) -> bool:
    """Wait until both answer; False when one ended (`alive`), or does not answer within START_TIMEOUT seconds."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and alive():
        try:
            for address in (of.prometheus_address, of.alertmanager_address):
                urllib.request.urlopen(f"http://{address}/-/ready", timeout=QUERY_TIMEOUT).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def query_alert_names(of: DemoMonitoring) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the alerts that have fired in Prometheus, and of those that fire now. Raises OSError while it is not up."""
    fired = _query_names(of, 'count_over_time(ALERTS{alertstate="firing"}[1h])')
    return fired, _query_names(of, 'ALERTS{alertstate="firing"}')


def _query_names(of: DemoMonitoring, expression: str) -> frozenset[str]:
    parameters = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(
        f"http://{of.prometheus_address}/api/v1/query?{parameters}", timeout=QUERY_TIMEOUT
    ) as answer:
        return frozenset(series["metric"]["alertname"] for series in json.load(answer)["data"]["result"])


def _alert_rules() -> str:
    chosen = [alert for alert in all_alerts(override_thresholds(["wal=3MiB"])) if alert.name in ALERTS]
    rules = [rule_entry(replace(alert, hold=1)) for alert in chosen]
    return str(yaml.safe_dump({"groups": [{"name": "queuekeeper-demo", "interval": "1s", "rules": rules}]}))
