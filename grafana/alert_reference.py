"""docs/alerts.md: every alert and every threshold in a line each."""

from collections.abc import Iterator

from exporter.alert_rules.alert import AlertGroup, AlertRule
from exporter.alert_rules.catalogue import alert_groups
from exporter.alert_rules.render import prometheus_duration
from exporter.alert_rules.thresholds import THRESHOLDS

_HEAD = """\
# Alerts

Generated from the table of thresholds (`exporter/alert_rules/thresholds.py`) and the alerts (`exporter/alert_rules/`) by
`python -m grafana.build`; do not edit. The rules are in `grafana/alerts/queuekeeper.yaml`, for the operator in
`grafana/operator/prometheusrule.yaml`; with other bounds: `queuekeeper rules render --threshold wal=512MiB`.

`critical` calls a person at once, `warning` is for working hours, `info` is context and calls no person. The last column names
the action that queuekeeper runs when its configuration has a rule that lists the alert, and the alert that calls a person
when that did not help.
"""


def alert_reference_text() -> str:
    """The whole document."""
    return "\n".join([_HEAD, *(line for group in alert_groups() for line in _group_lines(group)), *_threshold_lines()])


def _group_lines(group: AlertGroup) -> Iterator[str]:
    yield f"## {group.name.removeprefix('queuekeeper-').capitalize()}\n"
    yield "| alert | severity | when | for | queuekeeper does |\n| --- | --- | --- | --- | --- |"
    yield from (_alert_row(alert) for alert in group.alerts)
    yield ""


def _alert_row(alert: AlertRule) -> str:
    condition = " ".join(alert.expression.split()).replace("|", "\\|")
    link = f"[{alert.name}](runbook.md#{alert.name.lower()})"
    does = f"`{alert.remediation}`, else {alert.page}" if alert.remediation else ""
    return f"| {link} | {alert.severity} | `{condition}` | {prometheus_duration(alert.hold)} | {does} |"


def _threshold_lines() -> Iterator[str]:
    yield "## Thresholds\n"
    yield "`queuekeeper rules render --threshold NAME=VALUE` changes one.\n"
    yield "| name | value | metric | why |\n| --- | --- | --- | --- |"
    for each in THRESHOLDS.values():
        yield f"| `{each.name}` | {each.written_value} | `{each.metric}` | {each.why} |"
    yield ""
