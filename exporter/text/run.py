"""One run as a line for people, and as documented JSON fields."""

from actions.model.condition import Condition
from actions.store.runs import Run
from exporter.text.units import format_duration, format_time


def run_line(run: Run) -> str:
    """The run in one line: when, what, how it ended, whether it helped, why it ran, and its message."""
    at = format_time(run.ended_at or run.started_at or run.requested_at)
    took = f" in {format_duration(run.ended_at - run.started_at)}" if run.ended_at and run.started_at else ""
    effect = f", effect {run.effect}" if run.effect else ""
    measured = f" ({_format_number(run.before)} -> {_format_number(run.after)})" if run.effect else ""
    ended = f"{run.outcome or run.state}{took}{effect}{measured}"
    message = " ".join(run.message.split()) or "not ended yet"
    return f"{at} #{run.id} {run.database} {run.action}: {ended}; {_trigger_in_words(run)}: {message}"


def _trigger_in_words(run: Run) -> str:
    if run.trigger == "person":
        return "requested by a person"
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

    `before` and `after` are the values of the condition's metric.
    """
    fields: dict[str, object] = {name: getattr(run, name) for name in _FIELD_NAMES}
    fields["plan"] = list(run.plan.steps) if run.plan else []
    fields["figures"] = dict(run.figures)
    fields["condition"] = None if run.request.condition is None else run.request.condition.metric
    fields["options"] = dict(run.request.options)
    fields["asked_by"] = run.request.asked_by
    return fields
