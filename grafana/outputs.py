"""Every file that is generated: its path and what it shall hold."""

from collections.abc import Callable, Mapping
from pathlib import Path

from exporter.alert_rules.catalogue import groups
from exporter.alert_rules.render import operator, prometheus
from grafana import alert_reference, alert_tests, database, itself, overview

ROOT = Path(__file__).resolve().parent.parent
ALERTS, DASHBOARDS = ROOT / "grafana" / "alerts", ROOT / "grafana" / "dashboards"


def _tests(step: str) -> Callable[[], str]:
    return lambda: alert_tests.promtool_file(alert_tests.load(), step)


OUTPUTS: Mapping[Path, Callable[[], str]] = {
    ALERTS / "queuekeeper.yaml": lambda: prometheus(groups()),
    ALERTS / "queuekeeper_test.yaml": _tests("1m"),
    ALERTS / "queuekeeper_slow_test.yaml": _tests("1h"),
    ROOT / "grafana" / "operator" / "prometheusrule.yaml": lambda: operator(groups()),
    DASHBOARDS / "overview.json": overview.board,
    DASHBOARDS / "database.json": database.board,
    DASHBOARDS / "itself.json": itself.board,
    ROOT / "docs" / "alerts.md": alert_reference.text,
}
