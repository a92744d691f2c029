"""One run as documented JSON fields, for `queuekeeper history --json` and the HTTP API."""

from actions.store.runs import Run

_FIELD_NAMES = (
    "id", "database", "action", "trigger", "rule", "episode", "state", "outcome", "effect", "reason", "message",
    "requested_at", "started_at", "ended_at", "before", "after", "next_step",
)  # fmt: skip


def run_fields(run: Run) -> dict[str, object]:
    """Times in seconds since the epoch; `before` and `after` are the condition's number. Claims and tokens stay inside."""
    fields: dict[str, object] = {name: getattr(run, name) for name in _FIELD_NAMES}
    fields["plan"] = list(run.plan.steps) if run.plan else []
    fields["figures"] = dict(run.figures)
    fields["condition"] = None if run.request.condition is None else run.request.condition.metric
    fields["options"] = dict(run.request.options)
    fields["asked_by"] = run.request.asked_by
    return fields
