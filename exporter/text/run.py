"""One run as a line for people, and as documented JSON fields."""

from actions.model.condition import Condition
from actions.store.runs import Run
from exporter.text.units import format_duration, format_time

# What to tell of a run that is not in history as it was written there (actions/store/run_rows.py).
RECORD_WARNINGS = {
    "changed": "changed after it was written",
    "inserted": "inserted: queuekeeper did not record it",
}


def run_line(run: Run) -> str:
    """The run in one line: when, what, how it ended, whether it helped, why it ran, and its message."""
    at = format_time(run.ended_at or run.started_at or run.requested_at)
    took = "" if run.seconds is None else f" in {format_duration(run.seconds)}"
    effect = f", effect {run.effect}" if run.effect else ""
    measured = f" ({_format_number(run.before)} -> {_format_number(run.after)})" if run.effect else ""
    ended = f"{run.outcome or run.state}{took}{effect}{measured}"
    message = " ".join(run.message.split()) or "not ended yet"
    warning = f" ({RECORD_WARNINGS[run.record]})" if run.record in RECORD_WARNINGS else ""
    return f"{at} #{run.id} {run.database} {run.action}{warning}: {ended}; {_trigger_in_words(run)}: {message}"


def requester_in_words(run: Run) -> str:
    """Who or what requested the run: a user, a token's name, a schedule, a rule, a rule's alert."""
    if run.trigger == "person":
        return " ".join(run.request.asked_by.split()) or "a person"
    if run.trigger == "schedule":
        return f"schedule {run.rule}"
    return f"rule {run.rule}" + (f", alert {run.episode}" if run.episode else "")


def _trigger_in_words(run: Run) -> str:
    if run.trigger == "person":
        return f"requested by {requester_in_words(run)}"
    if run.trigger == "schedule":
        return f"schedule {run.rule}"
    condition = run.request.condition
    wrong = f", {condition.metric} {_bound_in_words(condition)}" if condition is not None else ""
    alert = f", alert {run.episode}" if run.episode else ""
    return f"{run.trigger} of rule {run.rule}{wrong}{alert}"


def _bound_in_words(condition: Condition) -> str:
    if condition.absent is not None:
        return f"absent for {format_duration(condition.absent)}"
    return (
        f"above {_format_number(condition.above)}"
        if condition.above is not None
        else f"below {_format_number(condition.below)}"
    )


def _format_number(value: float | None) -> str:
    return "none" if value is None else f"{value:.12g}"


_FIELD_NAMES = (
    "id", "database", "action", "trigger", "rule", "episode", "state", "outcome", "effect", "reason", "message",
    "requested_at", "started_at", "ended_at", "before", "after", "next_step",
)  # fmt: skip


def run_fields(run: Run) -> dict[str, object]:
    """The fields of `history --json` and the HTTP API; times in seconds since the epoch, without claim and token.

    `before` and `after` are the values of the condition's metric; `record`: whole, changed or inserted.
    """
    fields: dict[str, object] = {name: getattr(run, name) for name in _FIELD_NAMES}
    fields["plan"] = list(run.plan.steps) if run.plan else []
    fields["figures"] = dict(run.figures)
    fields["condition"] = None if run.request.condition is None else run.request.condition.metric
    fields["options"] = dict(run.request.options)
    fields["asked_by"] = run.request.asked_by
    fields["requested_by"] = requester_in_words(run)
    fields["record"], fields["record_hash"] = run.record, run.record_hash
    return fields
