"""One alert, and a group of them: values without Prometheus' syntax around them."""

from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["critical", "warning", "info"]

RUNBOOK = "https://github.com/queuekeeper/queuekeeper/blob/main/docs/runbook.md"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One rule. `hold`: seconds for which the expression must hold (`for`).

    `summary` and `description` are Prometheus' templates; the summary does not change while it fires, so that chat and
    pager show one alert as one. `remediation` is the action that queuekeeper takes on it where its configuration has a
    rule; `page` then names the alert that tells people when that did not help. `why` becomes a comment.
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
        """Its section of the runbook."""
        return f"{RUNBOOK}#{self.name.lower()}"


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """Rules that are evaluated together."""

    name: str
    alerts: tuple[AlertRule, ...]


def with_paging_alert(alert: AlertRule, hold: int, summary: str, description: str) -> tuple[AlertRule, AlertRule]:
    """An alert for queuekeeper, and the one for people: the same expression, after it had the time to help."""
    page = f"{alert.name}NotRemediated"
    people = replace(alert, name=page, hold=hold, severity="warning", summary=summary, description=description)
    return replace(alert, page=page), replace(people, remediation="", why="")


MINUTE, HOUR, DAY = 60, 3600, 86400


def time_in_words(seconds: float) -> str:
    """A time in the words of a description: `5 minutes`, `49 hours`, `15 days`."""
    for size, word in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:.0f} {word}s"
        if seconds == size and size != DAY:
            return f"1 {word}"
    return f"{seconds:.15g} seconds"
