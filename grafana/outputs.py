"""Every file that is generated: its path and what it shall hold."""

from collections.abc import Callable, Mapping
from pathlib import Path

from exporter.alert_rules.catalogue import alert_groups
from exporter.alert_rules.render import render_operator_resource, render_rule_file
from grafana import alert_reference, alert_tests, database, itself, overview

ROOT = Path(__file__).resolve().parent.parent
ALERTS, DASHBOARDS = ROOT / "grafana" / "alerts", ROOT / "grafana" / "dashboards"


def _alert_tests_of(step: str) -> Callable[[], str]:
    return lambda: alert_tests.promtool_test_file(alert_tests.load_cases(), step)


# Where the parts find each other in deploy/compose.yaml.
_IN_CONTAINERS = {
    "127.0.0.1:9977": "queuekeeper:9977",
    "127.0.0.1:9090": "prometheus:9090",
    "127.0.0.1:9093": "alertmanager:9093",
    "/etc/prometheus/queuekeeper.token": "/run/secrets/token",
}


def _for_containers(path: str) -> Callable[[], str]:
    """An example of grafana/ with the addresses of deploy/compose.yaml, without its head."""

    def render_example() -> str:
        example = (ROOT / "grafana" / path).read_text()
        for here, there in _IN_CONTAINERS.items():
            example = example.replace(here, there)
        body = "\n".join(line for line in example.splitlines() if not line.lstrip().startswith("#"))
        return f"# Generated from grafana/{path} by `python -m grafana.build`, for compose.yaml; do not edit.\n{body}\n"

    return render_example


OUTPUTS: Mapping[Path, Callable[[], str]] = {
    ALERTS / "queuekeeper.yaml": lambda: render_rule_file(alert_groups()),
    ALERTS / "queuekeeper_test.yaml": _alert_tests_of("1m"),
    ALERTS / "queuekeeper_slow_test.yaml": _alert_tests_of("1h"),
    ROOT / "grafana" / "operator" / "prometheusrule.yaml": lambda: render_operator_resource(alert_groups()),
    DASHBOARDS / "overview.json": overview.overview_dashboard,
    DASHBOARDS / "database.json": database.database_dashboard,
    DASHBOARDS / "itself.json": itself.agent_dashboard,
    ROOT / "docs" / "alerts.md": alert_reference.alert_reference_text,
    ROOT / "deploy" / "prometheus.yml": _for_containers("prometheus.yml"),
    ROOT / "deploy" / "alertmanager.yml": _for_containers("alertmanager-current.yml"),
    ROOT / "deploy" / "datasources.yaml": _for_containers("provisioning/datasources.yaml"),
}
