"""One run in one line: when, what, how it ended, whether it helped, why it ran, what it says."""

from actions.model.condition import Condition
from actions.store.runs import Run
from exporter.text.units import duration, moment


def line(run: Run) -> str:
    """One run in one line."""
    at = moment(run.ended_at or run.started_at or run.requested_at)
    took = f" in {duration(run.ended_at - run.started_at)}" if run.ended_at and run.started_at else ""
    effect = f", effect {run.effect}" if run.effect else ""
    measured = f" ({_number(run.before)} -> {_number(run.after)})" if run.effect else ""
    ended = f"{run.outcome or run.state}{took}{effect}{measured}"
    said = " ".join(run.message.split()) or "not ended yet"
    return f"{at} #{run.id} {run.database} {run.action}: {ended}; {_why(run)}: {said}"


def _why(run: Run) -> str:
    if run.trigger == "person":
        return "asked by a person"
    if run.trigger == "schedule":
        return f"schedule {run.rule}"
    condition = run.request.condition
    wrong = f", {condition.metric} {_bound(condition)}" if condition is not None else ""
    alert = f", alert {run.episode}" if run.episode else ""
    return f"{run.trigger} of rule {run.rule}{wrong}{alert}"


def _bound(condition: Condition) -> str:
    if condition.absent is not None:
        return f"absent for {duration(condition.absent)}"
    return f"above {_number(condition.above)}" if condition.above is not None else f"below {_number(condition.below)}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.12g}"
