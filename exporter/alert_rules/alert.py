"""An alert rule and a group of them as values, without the syntax of Prometheus."""

from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["critical", "warning", "info"]

RUNBOOK = "https://github.com/queuekeeper/queuekeeper/blob/main/docs/runbook.md"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alert rule. `hold`: seconds for which the expression must hold (`for`).

    `summary` and `description` are Prometheus' templates; the summary does not change while it fires, so that chat and
    pager show one alert as one. `remediation` is the action that queuekeeper runs on it when its configuration has a
    rule; `page` then names the alert that calls a person when that did not help. `why` becomes a comment.
    """

    name: str
    expression: str
    hold: int
    severity: Severity
    summary: str
    description: str
    remediation: str = ""
    page: str = ""
    why: str = ""

    @property
    def runbook_url(self) -> str:
        """The address of its section in the runbook."""
        return f"{RUNBOOK}#{self.name.lower()}"


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """Alert rules that Prometheus evaluates together."""

    name: str
    alerts: tuple[AlertRule, ...]


def with_paging_alert(alert: AlertRule, hold: int, summary: str, description: str) -> tuple[AlertRule, AlertRule]:
    """(the alert for queuekeeper, the alert for a person): the same expression, later, when the action had time to help."""
    page = f"{alert.name}NotRemediated"
    people = replace(alert, name=page, hold=hold, severity="warning", summary=summary, description=description)
    return replace(alert, page=page), replace(people, remediation="", why="")


MINUTE, HOUR, DAY = 60, 3600, 86400


def time_in_words(seconds: float) -> str:
    """A duration in words for a description: `5 minutes`, `49 hours`, `15 days`."""
    for size, word in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:.0f} {word}s"
        if seconds == size and size != DAY:
            return f"1 {word}"
    return f"{seconds:.15g} seconds"
