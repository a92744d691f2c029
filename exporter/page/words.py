"""The words of the page, and how numbers are written there. Pure."""

from actions.runner.catalogue import ACTION_SPECS
from exporter.status.database import RuleStatus
from exporter.text.run import RECORD_WARNINGS as RECORD_WARNINGS
from exporter.text.units import format_duration, format_size

HEALTH = {
    "unreadable": "Cannot be read",
    "attention": "Needs attention",
    "stale": "Reading too old",
    "unread": "Not read yet",
    "healthy": "Healthy",
}
# A sign before each word, with a shape of its own for each meaning: colour is never the only difference.
SIGNS = {"unreadable": "×", "attention": "!", "stale": "?", "unread": "…", "healthy": "✓"}  # noqa: RUF001 a sign
WAL = {
    "idle": "idle",
    "backlog": "backlog: not checkpointed",
    "pinned": "pinned by a reader",
    "reset_starved": "reset starved: readers overlap",
    "absent": "no WAL",
    "unknown": "unknown",
}
OUTCOMES = {
    "done": "done", "nothing_to_do": "nothing to do", "failed": "failed", "cancelled": "cancelled",
    "interrupted": "interrupted", "refused": "refused", "locked": "locked", "blocked": "blocked",
    "unverified": "not verified", "pending": "pending", "claimed": "starting", "running": "running",
}  # fmt: skip
EFFECTS = {
    "fixed": "fixed",
    "no_effect": "no effect",
    "worse": "worse",
    "blocked": "blocked",
    "unknown": "effect unknown",
}
ACTIONS = {
    name: " ".join(filter(None, (spec.summary, spec.caution))) for name, spec in ACTION_SPECS.items() if spec.remote
}


def format_amount(value: float | None, unit: str) -> str:
    """Return a number with its unit, joined by a no-break space; None is "unknown", never 0."""
    return "unknown" if value is None else _amount_text(value, unit).replace(" ", "\N{NO-BREAK SPACE}")


def _amount_text(value: float, unit: str) -> str:
    match unit:
        case "bytes":
            return format_size(value)
        case "seconds":
            return "0 s" if value == 0 else format_duration(value)
        case "ratio":
            return f"{value:.0%}" if value >= 0.0995 or value == 0 else f"{value:.1%}"
    return format_count(value)


def format_count(value: float) -> str:
    """Return a number with its thousands separated: `12 345`."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if value == int(value) else f"{value:g}"


def unit_of(metric: str) -> str:
    """Return the unit that the name of a metric ends with: bytes, seconds, ratio, or count."""
    for ending, unit in (("_bytes", "bytes"), ("_seconds", "seconds"), ("_ratio", "ratio")):
        if metric.endswith(ending):
            return unit
    return "count"


def condition_text(status: RuleStatus) -> str:
    """Return the condition of a rule in words: `sqlite_wal_backlog_bytes above 64.0 MiB`."""
    bound = _bound_text(status, unit_of(status.metric))
    where = ", ".join(f"{name}={value}" for name, value in status.where.items())
    return f"{status.metric}{{{where}}} {bound}" if where else f"{status.metric} {bound}"


def _bound_text(status: RuleStatus, unit: str) -> str:
    if status.absent is not None:
        return f"absent for {format_amount(status.absent, 'seconds')}"
    if status.above is not None:
        return f"above {format_amount(status.above, unit)}"
    return f"below {format_amount(status.below, unit)}"


def rule_text(status: RuleStatus, now: float) -> str:
    """Return in words what a rule measured, how it judges it, and what it will do."""
    is_absent = status.absent is not None and status.value is None
    value = "there is no value" if is_absent else format_amount(status.value, unit_of(status.metric))
    if status.verdict == "unknown":
        return "unknown: the value cannot be read now"
    if status.verdict == "clear":
        return f"within its limit: {value}"
    since = (
        f" for {format_amount(max(0.0, now - status.wrong_since), 'seconds')}" if status.wrong_since is not None else ""
    )
    if status.verdict == "between":
        return f"{value}, not yet past the value that clears it{since}"
    return f"outside its limit{since}: {value}; {_consequence_text(status)}"


def _consequence_text(status: RuleStatus) -> str:
    if status.suspended:
        return f"suspended: {status.suspended}"
    if status.hold is not None:
        return f"requests {status.action} after {format_amount(status.hold, 'seconds')}"
    return f"an alert requests {status.action}" if status.alerts else "no trigger is configured"
