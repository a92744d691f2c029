"""A dashboard around its panels: rows, numbers, variables, annotations, links."""

import json
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    RowPanel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from exporter.alert_rules.alert import RUNBOOK
from grafana.meanings import BLUE, GREEN, ORANGE, RED
from grafana.panels import AGENT, DATASOURCE, WATCHED, Panel, event_query

# Grafana 11 writes this number; it decides which migrations run when the file is loaded.
SCHEMA_VERSION = 39
TAG = "queuekeeper"
# Title, panels, collapsed.
DashboardRow = tuple[str, Sequence[Panel], bool]

VARIABLES = {
    "job": "label_values(queuekeeper_build_info, job)",
    "instance": 'label_values(queuekeeper_build_info{job=~"$job"}, instance)',
    "database": 'label_values(sqlite_up{job=~"$job", instance=~"$instance"}, database)',
    "queue": f"label_values(sqlite_queue_tasks{{{WATCHED}}}, queue)",
}


def dashboard_json(
    uid: str,
    title: str,
    description: str,
    rows: Iterable[DashboardRow],
    variables: Sequence[str],
    *,
    one_database: bool = False,
) -> str:
    """The JSON file of a dashboard. `variables` of VARIABLES come after the data source; `one_database`: no All there."""
    board = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG, "sqlite"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .links(_dashboard_links())
        .annotations(_annotation_layers("database" in variables))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name in variables:
        board.with_variable(_query_variable(name, VARIABLES[name], several=not (one_database and name == "database")))
    for row in rows:
        _add_row(board, *row)
    return json.dumps(_plain_values(_number_panels(board.build())), indent=1, sort_keys=True) + "\n"


def _add_row(board: dashboard.Dashboard, title: str, panels: Sequence[Panel], collapsed: bool) -> None:
    """A collapsed row holds its panels, an open one is followed by them; the builder finds their places."""
    row = dashboard.Row(title).collapsed(collapsed)
    if collapsed:
        for panel in panels:
            row.with_panel(panel)
    board.with_row(row)
    for panel in () if collapsed else panels:
        board.with_panel(panel)


def _number_panels(board: Dashboard) -> Dashboard:
    """Every panel and row with an id of its own: links to a panel use it."""
    numbers = count(1)
    board.schema_version = SCHEMA_VERSION
    for outer in board.panels or ():
        outer.id_val = next(numbers)
        for inner in outer.panels if isinstance(outer, RowPanel) else ():
            inner.id_val = next(numbers)
    return board


def _plain_values(board: Dashboard) -> Any:
    return json.loads(json.dumps(board, cls=JSONEncoder))


def _query_variable(name: str, query: str, *, several: bool) -> dashboard.QueryVariable:
    """Read again when the time range changes, sorted without regard to case, narrowed by those before it."""
    made = (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(DATASOURCE)
        .query({"query": query, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
    )
    if not several:
        return made
    # A queue without a name has an empty label, which only `.*` takes in.
    everything = ".*" if name == "queue" else ".+"
    return (
        made.multi(True)
        .include_all(True)
        .all_value(everything)
        .current(VariableOption(text=["All"], value=["$__all"], selected=True))
    )


class _AnnotationLayer(AnnotationQuery):
    """A layer of annotations; the builders do not know the fields that the Prometheus data source adds."""

    title: str
    tags: str

    def to_json(self) -> dict[str, object]:
        words = {"titleFormat": self.title, "textFormat": "{{database}} on {{instance}}", "tagKeys": self.tags}
        return {**super().to_json(), **words, "step": "60s"}

    def build(self) -> AnnotationQuery:
        return self


def _annotation_layers(of_database: bool) -> list[_AnnotationLayer]:
    """Firing alerts, finished actions and whether they helped, drawn over every curve.

    Alerts about the agent have no database.
    """
    labels = WATCHED if of_database else AGENT
    alerts = f'{AGENT}, database=~"$database|"' if of_database else AGENT
    done, failed = (
        event_query("queuekeeper_action_runs_total", "instance, database, action", f'{labels}, outcome="{outcome}"')
        for outcome in ("done", "failed")
    )
    effect = event_query("queuekeeper_remediation_effect_total", "instance, database, rule, effect", labels)
    return [
        _annotation_layer(
            "Alerts", f'ALERTS{{alertstate="firing", {alerts}}}', RED, "{{alertname}}", "severity,database,queue"
        ),
        _annotation_layer("Actions done", f"{done} > 0", BLUE, "{{action}} done", "database"),
        _annotation_layer("Actions failed", f"{failed} > 0", ORANGE, "{{action}} failed", "database"),
        _annotation_layer("Effects", f"{effect} > 0", GREEN, "{{rule}}: {{effect}}", "database"),
    ]


def _annotation_layer(name: str, expression: str, colour: str, title: str, tags: str) -> _AnnotationLayer:
    made = _AnnotationLayer(name=name, datasource=DATASOURCE, icon_color=colour, expr=expression)
    made.title, made.tags = title, tags
    return made


def _dashboard_links() -> list[dashboard.DashboardLink]:
    """Our other dashboards with the same choice and time, and the runbook."""
    ours = dashboard.DashboardLink("queuekeeper").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    runbook = dashboard.DashboardLink("Runbook").type(DashboardLinkType.LINK).url(RUNBOOK).icon("doc")
    return [ours.as_dropdown(True).include_vars(True).keep_time(True), runbook.target_blank(True)]
