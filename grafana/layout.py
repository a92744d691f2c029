"""A dashboard around its panels: places, numbers, variables, annotations, links."""

from collections.abc import Callable, Iterable

from grafana.panels import AGENT, BLUE, DATASOURCE, ORANGE, RED, RUNBOOK, WATCHED, Json

# Title, panels, collapsed.
Row = tuple[str, Callable[[], list[Json]], bool]


def placed(panels: Iterable[Json], top: int) -> tuple[list[Json], int]:
    """The panels from left to right and downwards, and the first free line below them."""
    result: list[Json] = []
    x, y, bottom = 0, top, top
    for each in panels:
        size = each["gridPos"]
        if x + size["w"] > 24:
            x, y = 0, bottom
        result.append({**each, "gridPos": {"x": x, "y": y, **size}})
        x, bottom = x + size["w"], max(bottom, y + size["h"])
    return result, bottom


def rows(given: Iterable[Row]) -> list[Json]:
    """All rows and their panels, numbered. A collapsed row holds its panels, an open one is followed by them."""
    result: list[Json] = []
    y = 0
    for title, make, collapsed in given:
        inside, bottom = placed(make(), y + 1)
        row = {"type": "row", "title": title, "collapsed": collapsed, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}
        result += [{**row, "panels": inside}] if collapsed else [{**row, "panels": []}, *inside]
        y = y + 1 if collapsed else bottom
    return numbered(result)


def numbered(panels: Iterable[Json]) -> list[Json]:
    """The panels with ids, those inside rows too."""
    result: list[Json] = []
    number = 0
    for each in panels:
        number += 1
        own, inside = number, []
        for child in each.get("panels", []):
            number += 1
            inside.append({"id": number, **child})
        result.append({"id": own, **each, **({"panels": inside} if "panels" in each else {})})
    return result


def variables() -> list[Json]:
    """Data source, then job, instance and database, each narrowed by those before it."""
    source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1}
    return [
        source,
        variable("job", "label_values(queuekeeper_build_info, job)"),
        variable("instance", 'label_values(queuekeeper_build_info{job=~"$job"}, instance)'),
        variable("database", 'label_values(sqlite_up{job=~"$job", instance=~"$instance"}, database)'),
    ]


def variable(name: str, query: str) -> Json:
    """Several values or all, read again when the time range changes, sorted without regard to case."""
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 5,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
    }


def annotations() -> list[Json]:
    """Firing alerts and finished actions, drawn over every curve."""
    done = f"changes(queuekeeper_action_last_success_timestamp_seconds{{{WATCHED}}}[$__interval]) > 0"
    failed = f"changes(queuekeeper_action_last_failure_timestamp_seconds{{{WATCHED}}}[$__interval]) > 0"
    # Alerts about the agent itself have no database: "or nothing" keeps them.
    firing = f'ALERTS{{alertstate="firing", {AGENT}, database=~"$database|"}}'
    return [
        annotation("Alerts", firing, RED, "{{alertname}}", "severity,database,queue"),
        annotation("Actions done", done, BLUE, "{{action}} done", "database"),
        annotation("Actions failed", failed, ORANGE, "{{action}} failed", "database"),
    ]


def annotation(name: str, expression: str, colour: str, title: str, tags: str) -> Json:
    """One layer of annotations; the step is the window of `$__interval`."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expression,
        "step": "60s",
        "titleFormat": title,
        "textFormat": "{{database}} on {{instance}}",
        "tagKeys": tags,
    }


def links() -> list[Json]:
    """Other dashboards of ours with the same choice and time, and the runbook."""
    ours = {"type": "dashboards", "title": "queuekeeper", "tags": ["queuekeeper"], "asDropdown": True}
    runbook = {"type": "link", "title": "Runbook", "url": RUNBOOK, "icon": "doc", "targetBlank": True}
    return [{**ours, "includeVars": True, "keepTime": True}, runbook]
