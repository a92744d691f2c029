"""What things are called on the page, and how numbers read there. Pure."""

from actions.runner.catalogue import ACTION_SPECS
from exporter.status.database import RuleStatus
from exporter.text.units import format_duration, format_size

HEALTH = {
    "unreadable": "Cannot be read",
    "attention": "Needs attention",
    "stale": "Reading too old",
    "unread": "Not read yet",
    "healthy": "Healthy",
}
# A sign beside each word, of another shape for another meaning: colour is never the only difference.
SIGNS = {"unreadable": "×", "attention": "!", "stale": "?", "unread": "…", "healthy": "✓"}  # noqa: RUF001 a sign
WAL = {
    "idle": "idle",
    "backlog": "backlog: nobody copies it",
    "pinned": "pinned by a reader",
    "reset_starved": "starved: readers without a gap",
    "absent": "no WAL",
    "unknown": "unknown",
}
OUTCOMES = {
    "done": "done", "nothing_to_do": "nothing to do", "failed": "failed", "cancelled": "cancelled",
    "interrupted": "interrupted", "refused": "refused", "locked": "locked", "blocked": "blocked",
    "unverified": "not verified", "pending": "waiting", "claimed": "starting", "running": "running",
}  # fmt: skip
EFFECTS = {
    "fixed": "it helped: fixed",
    "no_effect": "it had no effect",
    "worse": "it got worse",
    "blocked": "it was blocked",
    "unknown": "whether it helped is unknown",
}
ACTIONS = {
    name: " ".join(filter(None, (spec.summary, spec.caution))) for name, spec in ACTION_SPECS.items() if spec.remote
}


def format_amount(value: float | None, unit: str) -> str:
    """A number as a person reads it, never torn from its unit; None is "unknown", never 0."""
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
    """Thousands apart: `12 345`."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if value == int(value) else f"{value:g}"


def unit_of(metric: str) -> str:
    """The unit that a metric's name tells."""
    for ending, unit in (("_bytes", "bytes"), ("_seconds", "seconds"), ("_ratio", "ratio")):
        if metric.endswith(ending):
            return unit
    return "count"


def condition(opinion: RuleStatus) -> str:
    """`sqlite_wal_backlog_bytes above 64.0 MiB`."""
    bound = _bound_text(opinion, unit_of(opinion.metric))
    where = ", ".join(f"{name}={value}" for name, value in opinion.where.items())
    return f"{opinion.metric}{{{where}}} {bound}" if where else f"{opinion.metric} {bound}"


def _bound_text(opinion: RuleStatus, unit: str) -> str:
    if opinion.absent is not None:
        return f"absent for {format_amount(opinion.absent, 'seconds')}"
    if opinion.above is not None:
        return f"above {format_amount(opinion.above, unit)}"
    return f"below {format_amount(opinion.below, unit)}"


def thinks(opinion: RuleStatus, now: float) -> str:
    """What a rule makes of what it sees, and what follows."""
    nothing = opinion.absent is not None and opinion.value is None
    seen = "there is no value" if nothing else format_amount(opinion.value, unit_of(opinion.metric))
    if opinion.verdict == "unknown":
        return "cannot be judged: the value is not known now"
    if opinion.verdict == "clear":
        return f"all is well: {seen}"
    since = (
        f" for {format_amount(max(0.0, now - opinion.wrong_since), 'seconds')}"
        if opinion.wrong_since is not None
        else ""
    )
    if opinion.verdict == "between":
        return f"{seen}, not yet back where it counts as well{since}"
    return f"wrong{since}: {seen}; {_consequence_text(opinion)}"


def _consequence_text(opinion: RuleStatus) -> str:
    if opinion.suspended:
        return f"suspended: {opinion.suspended}"
    if opinion.hold is not None:
        return f"asks for {opinion.action} once that lasted {format_amount(opinion.hold, 'seconds')}"
    return f"{opinion.action} follows when an alert asks" if opinion.alerts else "nothing starts it"
