"""The dashboard of the agents themselves: whether they read, may act, which alerts they received, and what that costs."""

from grafana.layout import DashboardRow, dashboard_json
from grafana.meanings import BLUE, CODES, DATABASES, DECISIONS, GREEN, ORANGE, RED
from grafana.panels import (
    AGENT,
    Panel,
    bar_panel,
    event_query,
    instant_query,
    line_panel,
    number_panel,
    range_query,
    red_above,
    state_panel,
    table_panel,
    threshold_steps,
    value_mapping,
)

ON_INSTANCE = "{{instance}}"


def agent_status_panels() -> list[Panel]:
    """How it is now."""
    return [
        number_panel(
            "Agents",
            "Agents that Prometheus can scrape. Good: as many as you run.",
            f"count(queuekeeper_build_info{{{AGENT}}})",
            alert="QueueExporterDown",
            none="none",
        ),
        number_panel(
            "Acting",
            "Whether queuekeeper may act. Good: what you configured. Observing: actions are off in the configuration. "
            "Paused: a person stopped them.",
            f"max(queuekeeper_actions_enabled{{{AGENT}}} + 2 * queuekeeper_paused{{{AGENT}}})",
            mappings=value_mapping(
                {"observing": (0, BLUE), "acting": (1, GREEN), "observing, paused": (2, ORANGE), "paused": (3, ORANGE)}
            ),
            alert="QueueActionsPaused",
        ),
        number_panel(
            "Configuration",
            "Whether the last reload was accepted. Good: accepted.",
            f"min(queuekeeper_config_last_reload_successful{{{AGENT}}})",
            mappings=value_mapping({"refused": (0, RED), "accepted": (1, GREEN)}),
            alert="QueueConfigReloadFailed",
        ),
        number_panel(
            "Config age",
            "How long ago a configuration was last accepted. Good: since your last change.",
            f"time() - max(queuekeeper_config_last_reload_success_timestamp_seconds{{{AGENT}}})",
            unit="s",
            alert="QueueConfigReloadFailed",
        ),
        number_panel(
            "History",
            "Whether it can write down what it does; without that it starts nothing. Good: writable.",
            f"min(queuekeeper_state_writable{{{AGENT}}})",
            mappings=value_mapping({"not writable": (0, RED), "writable": (1, GREEN)}),
            alert="QueueStateNotWritable",
        ),
        number_panel(
            "Runs waiting",
            "Runs that were asked for and have not begun. Good: 0, or for a moment.",
            f"sum(queuekeeper_actions_pending{{{AGENT}}})",
            alert="QueueActionStuck",
        ),
        number_panel(
            "Collectors failing",
            "Readings that fail now, over all databases. Good: 0.",
            f"count(queuekeeper_collector_success{{{AGENT}}}) - sum(queuekeeper_collector_success{{{AGENT}}})",
            thresholds=threshold_steps((None, GREEN), (1, ORANGE)),
            alert="QueueCollectorFailing",
        ),
        number_panel(
            "Series",
            "Samples of the largest page. Good: level; about 60 for each database, and some for each queue.",
            f"max(scrape_samples_scraped{{{AGENT}}})",
            alert="QueueExporterDown",
        ),
    ]


def polling_panels() -> list[Panel]:
    """Does it see everything, and at what cost?"""
    return [
        line_panel(
            "Age of the last reading",
            "Time since a database was last read. Good: below two poll intervals.",
            range_query(
                f"max by (instance) (time() - queuekeeper_poll_last_success_timestamp_seconds{{{AGENT}}})",
                "oldest on " + ON_INSTANCE,
            ),
            unit="s",
            thresholds=red_above("poll_age"),
            alert="QueuePollStalled",
        ),
        line_panel(
            "Databases by state",
            "Good: all readable. Found: not polled yet; stale: its reading is too old; else why it is not read.",
            range_query(f"sum by (state) (queuekeeper_databases{{{AGENT}}})", "{{state}}"),
            unit="short",
            stacked=True,
            alert="QueueDatabaseDown",
            words=DATABASES,
        ),
        line_panel(
            "Time of the collectors",
            "Duration of the last reading, of the slowest database. Good: milliseconds.",
            range_query(f"max by (collector) (queuekeeper_collector_duration_seconds{{{AGENT}}})", "{{collector}}"),
            unit="s",
        ),
        bar_panel(
            "Errors of the collectors",
            "Failed readings by reason. Good: none.",
            range_query(
                event_query("queuekeeper_collector_errors_total", "collector, reason", AGENT), "{{collector}}: {{reason}}"
            ),
            alert="QueueCollectorFailing",
        ),
        bar_panel(
            "Polls too late, queue names dropped",
            "Polls that were due while the one before had not ended, and queue names that had to share the label `other`. "
            "Good: none; else raise the interval, or look at what makes so many queue names.",
            range_query(event_query("queuekeeper_poll_overruns_total", "instance", AGENT), "polls too late on " + ON_INSTANCE),
            range_query(
                event_query("queuekeeper_label_values_dropped_total", "instance", AGENT), "names dropped on " + ON_INSTANCE
            ),
            alert="QueuePollStalled",
        ),
        line_panel(
            "Time of a scrape",
            "How long Prometheus waited for the page, which opens no database. Good: some tens of milliseconds.",
            range_query(f"scrape_duration_seconds{{{AGENT}}}", ON_INSTANCE),
            unit="s",
            alert="QueueExporterDown",
        ),
    ]  # fmt: skip


def acting_panels() -> list[Panel]:
    """Panels about what triggered the runs and how long they took."""
    buckets = f"queuekeeper_action_duration_seconds_bucket{{{AGENT}}}"
    recent, ever = f"sum by (le, action) (increase({buckets}[$__range]))", f"sum by (le, action) ({buckets})"
    return [
        bar_panel(
            "Who asked",
            "What started the runs: threshold, schedule, alert, person. Good: schedules, now and then a rule.",
            range_query(
                event_query("queuekeeper_action_triggers_total", "action, trigger", AGENT), "{{action}}: {{trigger}}"
            ),
            alert="QueueActionFailed",
        ),
        bar_panel(
            "Alerts received",
            "What became of alerts that Alertmanager sent. Good: accepted and duplicate; rejected and no_match want a look at "
            "the configuration, and so does what the sender left out (max_alerts).",
            range_query(event_query("queuekeeper_webhook_alerts_total", "decision", AGENT), "{{decision}}"),
            range_query(
                event_query("queuekeeper_webhook_truncated_alerts_total", "instance", AGENT), "left out, to " + ON_INSTANCE
            ),
            alert="QueueWebhookRefused",
            words=DECISIONS,
        ),
        bar_panel(
            "Answers to Alertmanager",
            "HTTP status of the webhook's answers. Good: 202 only. 401 and 403: the token; 503: the history cannot be written.",
            range_query(event_query("queuekeeper_webhook_requests_total", "code", AGENT), "{{code}}"),
            alert="QueueWebhookRefused",
            words=CODES,
        ),
        line_panel(
            "How long runs take",
            "Nine in ten runs of an action, within the time shown, ended within this; where none did, of all there were. "
            "Good: seconds; minutes for a backup, a drill or a vacuum of a large database.",
            range_query(f"histogram_quantile(0.9, {recent}) >= 0 or histogram_quantile(0.9, {ever})", "{{action}}"),
            unit="s",
            alert="QueueActionStuck",
        ),
        state_panel(
            "May it act?",
            "Good: what you configured, without a gap.",
            range_query(
                f"queuekeeper_actions_enabled{{{AGENT}}} * (1 - queuekeeper_paused{{{AGENT}}})", ON_INSTANCE
            ),
            words={"no": (0, BLUE), "acting": (1, GREEN)},
            alert="QueueActionsPaused",
        ),
        table_panel(
            "Versions",
            "What each agent is built of; sqlite_version is its own library's. Good: the same everywhere.",
            {
                "Agents": instant_query(
                    "count by (instance, version, python_version, sqlite_version) "
                    f"(queuekeeper_build_info{{{AGENT}}})"
                )
            },
            by=("instance", "version", "python_version", "sqlite_version"),
            overrides={},
            width=8,
        ),
    ]  # fmt: skip


def agent_dashboard() -> str:
    """The file."""
    rows: list[DashboardRow] = [
        ("Now", agent_status_panels(), False),
        ("Reading", polling_panels(), False),
        ("Acting", acting_panels(), False),
    ]
    return dashboard_json(
        "queuekeeper-agent",
        "queuekeeper: itself",
        "Whether the agents read everything, may act, and what triggered their runs.",
        rows,
        ("job", "instance"),
    )
