"""docs/alerts.md: every alert and every threshold in a line each."""

from collections.abc import Iterator

from exporter.alert_rules.alert import Alert, Group
from exporter.alert_rules.catalogue import groups
from exporter.alert_rules.render import duration
from exporter.alert_rules.thresholds import THRESHOLDS

_HEAD = """\
# Alerts

Generated from the table of thresholds (`exporter/alert_rules/thresholds.py`) and the alerts (`exporter/alert_rules/`) by
`python -m grafana.build`; do not edit. The rules are in `grafana/alerts/queuekeeper.yaml`, for the operator in
`grafana/operator/prometheusrule.yaml`; with other bounds: `queuekeeper rules render --threshold wal=512MiB`.

`critical` calls somebody, `warning` is for working hours, `info` is context and never calls. Where an action stands in the
last column, queuekeeper takes it by itself if its configuration has a rule that lists the alert, and the alert named
there tells people when that did not help.
"""


def text() -> str:
    """The whole document."""
    return "\n".join([_HEAD, *(line for group in groups() for line in _section(group)), *_thresholds()])


def _section(group: Group) -> Iterator[str]:
    yield f"## {group.name.removeprefix('queuekeeper-').capitalize()}\n"
    yield "| alert | severity | when | for | queuekeeper does |\n| --- | --- | --- | --- | --- |"
    yield from (_row(alert) for alert in group.alerts)
    yield ""


def _row(alert: Alert) -> str:
    condition = " ".join(alert.expression.split()).replace("|", "\\|")
    link = f"[{alert.name}](runbook.md#{alert.name.lower()})"
    does = f"`{alert.remediation}`, else {alert.page}" if alert.remediation else ""
    return f"| {link} | {alert.severity} | `{condition}` | {duration(alert.hold)} | {does} |"


def _thresholds() -> Iterator[str]:
    yield "## Thresholds\n"
    yield "`queuekeeper rules render --threshold NAME=VALUE` changes one.\n"
    yield "| name | value | metric | why |\n| --- | --- | --- | --- |"
    for each in THRESHOLDS.values():
        yield f"| `{each.name}` | {each.written} | `{each.metric}` | {each.why} |"
    yield ""
