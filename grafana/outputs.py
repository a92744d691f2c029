"""Every file that is generated: its path and what it shall hold."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from exporter.alert_rules.catalogue import groups
from exporter.alert_rules.render import operator, prometheus
from grafana import alert_reference, alert_tests, overview

ROOT = Path(__file__).resolve().parent.parent
ALERTS = ROOT / "grafana" / "alerts"


def _tests(step: str) -> Callable[[], str]:
    return lambda: alert_tests.promtool_file(alert_tests.load(), step)


OUTPUTS: Mapping[Path, Callable[[], str]] = {
    ALERTS / "queuekeeper.yaml": lambda: prometheus(groups()),
    ALERTS / "queuekeeper_test.yaml": _tests("1m"),
    ALERTS / "queuekeeper_slow_test.yaml": _tests("1h"),
    ROOT / "grafana" / "operator" / "prometheusrule.yaml": lambda: operator(groups()),
    ROOT / "grafana" / "dashboards" / "overview.json": lambda: json.dumps(overview.dashboard(), indent=1) + "\n",
    ROOT / "docs" / "alerts.md": alert_reference.text,
}
