"""Building blocks of dashboards: one panel, query or threshold as plain dictionaries of Grafana's JSON model.

The model: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/.
Thresholds are those of the alert rules, from one table, so a colour and an alert never disagree.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from exporter.alert_rules.alert import RUNBOOK
from exporter.thresholds import THRESHOLDS

Json = dict[str, Any]

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
AGENT = 'job=~"$job", instance=~"$instance"'
WATCHED = f'{AGENT}, database=~"$database"'


def bad_above(threshold: str, colour: str = RED) -> list[Json]:
    """Green up to the threshold of this name."""
    return steps((None, GREEN), (THRESHOLDS[threshold].value, colour))


def bad_below(threshold: str) -> list[Json]:
    """Red below the threshold of this name."""
    return steps((None, RED), (THRESHOLDS[threshold].value, GREEN))


def steps(*pairs: tuple[float | None, str]) -> list[Json]:
    """Grafana's threshold steps; None is minus infinity."""
    return [{"value": value, "color": colour} for value, colour in pairs]


def target(expression: str, legend: str, *, instant: bool = False) -> Json:
    """One query; its refId is given by the panel."""
    return {
        "expr": expression,
        "legendFormat": legend,
        "datasource": DATASOURCE,
        "instant": instant,
        "range": not instant,
    }


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    unit: str,
    width: int,
    height: int = 8,
    thresholds: Sequence[Json] = (),
    custom: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    mappings: Sequence[Json] = (),
    alert: str = "",
) -> Json:
    """One panel without its place. `alert` links to the runbook's section of the alert that the panel explains."""
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "mappings": list(mappings),
        "thresholds": {"mode": "absolute", "steps": list(thresholds) or steps((None, BLUE))},
        "color": {"mode": "thresholds" if kind != "timeseries" else "palette-classic"},
        "custom": dict(custom or {}),
    }
    link = {"title": f"Runbook: {alert}", "url": f"{RUNBOOK}#{alert.lower()}", "targetBlank": True}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**each, "refId": chr(ord("A") + index)} for index, each in enumerate(targets)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": dict(options or {}),
        "links": [link] if alert else [],
        "gridPos": {"w": width, "h": height},
    }


def stat(title: str, description: str, expression: str, **rest: Any) -> Json:
    """One number, now."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    }
    targets = [target(expression, title, instant=True)]
    return panel("stat", title, description, targets, width=4, height=4, options=options, **rest)


def lines(title: str, description: str, targets: Sequence[Json], *, stacked: bool = False, **rest: Any) -> Json:
    """Curves over time; gaps stay gaps, because an absent reading is not a value."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if stacked else 0,
        "spanNulls": False,
        "showPoints": "auto",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if rest.get("thresholds") else "off"},
    }
    return panel(
        "timeseries", title, description, targets, width=8, custom=custom, options=_legend("lastNotNull", "max"), **rest
    )


def bars(title: str, description: str, targets: Sequence[Json], *, width: int = 8, **rest: Any) -> Json:
    """Events per interval, as stacked bars."""
    custom = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
    return panel("timeseries", title, description, targets, width=width, custom=custom, options=_legend("sum"), **rest)


def _legend(*calculations: str) -> Json:
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": list(calculations)},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def mapping(values: Mapping[str, tuple[int, str]]) -> list[Json]:
    """Words for numbers."""
    options = {str(number): {"text": text, "color": colour} for text, (number, colour) in values.items()}
    return [{"type": "value", "options": options}]


def increase(metric: str, by: str, labels: str, window: str = "$__rate_interval") -> str:
    """How much a counter grew, summed by these labels."""
    return f"sum by ({by}) (increase({metric}{{{labels}}}[{window}]))"
