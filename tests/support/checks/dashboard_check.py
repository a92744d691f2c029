"""Finds what is wrong with dashboards and alert rules: from the files alone, and against a real Prometheus.

Grafana shows an empty panel for a misspelled metric, and a rule on one is silent for ever. So every query is run and
must answer, every label of a legend must be in the answer, and every selector of a rule must match something.
The static rules are those of Grafana's dashboard-linter where they fit.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import yaml

from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import RealPartError, query

Json = Mapping[str, Any]

GRID_WIDTH = 24
DATASOURCE_UID = "${datasource}"
BUILT_IN = {"__rate_interval": "1m", "__interval": "1s", "__range": "5m"}
SHOWS_NUMBERS = ("timeseries", "stat", "gauge", "bargauge", "state-timeline", "table")
# Metrics that a healthy agent rightly does not have yet: nothing is pinned, failed, running, backed up or remediated.
ABSENT_WHILE_NOTHING_HAPPENED = frozenset(
    {
        "sqlite_wal_pinned_seconds",
        "sqlite_backup_age_seconds",
        "queuekeeper_collector_errors_total",
        "queuekeeper_action_runs_total",
        "queuekeeper_action_triggers_total",
        "queuekeeper_action_started_timestamp_seconds",
        "queuekeeper_action_last_success_timestamp_seconds",
        "queuekeeper_action_last_failure_timestamp_seconds",
        "queuekeeper_remediation_effect_total",
        "queuekeeper_webhook_alerts_total",
    }
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_LEGEND_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_LABEL_VALUES = re.compile(r"label_values\((?:(.+),\s*)?(\w+)\)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `where` is a panel, variable, annotation or alert; `what` a sentence."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Expression:
    """One query of a dashboard, and who asks it.

    `legend`: labels that every series of the answer must have; `columns`: of a table, that one of them must have.
    """

    where: str
    text: str
    legend: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def load_dashboard(path: Path) -> Json:
    """The dashboard of a JSON file."""
    loaded: Json = json.loads(path.read_text())
    return loaded


def load_rules(path: Path) -> list[Json]:
    """All rules of a rule file, in order."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def panels(dashboard: Json) -> list[Json]:
    """All panels but rows, those inside collapsed rows too."""
    flat = [panel for outer in dashboard["panels"] for panel in (outer, *outer.get("panels", ()))]
    return [panel for panel in flat if panel["type"] != "row"]


def expressions(dashboard: Json) -> list[Expression]:
    """The queries of panels and annotations."""
    shown = [_asked(panel, each) for panel in panels(dashboard) for each in panel.get("targets", ())]
    return shown + [Expression(f"annotation {each['name']}", each["expr"]) for each in _annotations(dashboard)]


def _asked(panel: Json, asked: Json) -> Expression:
    legend = tuple(_LEGEND_LABEL.findall(asked.get("legendFormat") or ""))
    first = asked is panel["targets"][0]
    return Expression(panel["title"], asked["expr"], legend, _columns(panel) if first else ())


def _columns(panel: Json) -> tuple[str, ...]:
    """The labels that a table shows beside its values."""
    organized = [each["options"] for each in panel.get("transformations", ()) if each["id"] == "organize"]
    names = organized[0].get("renameByName", {}) if organized else {}
    return tuple(name for name in names if not name.startswith("Value #"))


def substituted(text: str, values: Mapping[str, str]) -> str:
    """The expression with Grafana's variables replaced; an unknown one stays as it is."""
    return _VARIABLE.sub(lambda match: {**BUILT_IN, **values}.get(match[1] or match[2], match[0]), text)


def selectors(expression: str) -> list[Any]:
    """The vector selectors of an expression without variables. Raises ValueError where it is no PromQL."""
    found: list[Any] = []

    def note(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), note)
    return found


def metrics_used(expression: str) -> set[str]:
    """The names of the metrics in an expression, with or without Grafana's variables. Raises ValueError."""
    return {node.name for node in selectors(substituted(expression, _placeholders(expression))) if node.name}


def static_findings(dashboard: Json) -> list[Finding]:
    """What is wrong by the file alone."""
    found = [*_model_findings(dashboard), *_overlaps(dashboard)]
    for panel in panels(dashboard):
        found += [Finding(panel.get("title") or f"panel {panel.get('id')}", what) for what in _panel_findings(panel)]
    names = {each["name"] for each in dashboard["templating"]["list"]}
    for expression in expressions(dashboard):
        found += [Finding(expression.where, what) for what in _expression_findings(expression.text, names)]
    return found


def live_findings(base_url: str, dashboard: Json, may_be_empty: Collection[str] = ()) -> list[Finding]:
    """What does not answer, or answers without a legend's label. `base_url` is Prometheus's.

    A query that uses a metric of `may_be_empty` must be valid and may have no answer: nothing of the kind happened.
    Variables come first: one without a value makes everything behind it empty, so nothing else is asked then.
    """
    values, found = _variable_values(base_url, dashboard)
    if found:
        return found
    for expression in expressions(dashboard):
        quiet = expression.where.startswith("annotation ") or _uses(expression.text, may_be_empty)
        asked = replace(expression, text=substituted(expression.text, values))
        found += [Finding(expression.where, what) for what in _answer_findings(base_url, asked, quiet)]
    return found


def rule_findings(base_url: str, rules: Collection[Json], may_be_empty: Collection[str] = ()) -> list[Finding]:
    """Selectors of rules that match nothing: it proves names and labels while the alert is rightly silent."""
    found = []
    for rule in rules:
        for node in selectors(rule["expr"]):
            # What it matched an hour ago is no matter of names and labels.
            selector = re.sub(r" offset \S+", "", node.prettify())
            if node.name not in may_be_empty and not query(base_url, f"count({selector})"):
                found.append(Finding(rule["alert"], f"matches nothing: {selector}"))
    return found


def _annotations(dashboard: Json) -> list[Json]:
    return list(dashboard.get("annotations", {}).get("list", ()))


def _uses(text: str, metrics: Collection[str]) -> bool:
    # What is no PromQL is not quiet: Prometheus shall say so in its own words.
    try:
        return bool(metrics_used(text) & set(metrics))
    except ValueError:
        return False


def _placeholders(expression: str) -> dict[str, str]:
    return {match[1] or match[2]: "x" for match in _VARIABLE.finditer(expression)} | BUILT_IN


def _model_findings(dashboard: Json) -> Iterator[Finding]:
    title = dashboard["title"]
    ids = Counter(each.get("id") for outer in dashboard["panels"] for each in (outer, *outer.get("panels", ())))
    for number, count in ids.items():
        if number is None or count > 1:
            yield Finding(title, f"panel id {number} is missing or used twice")
    if dashboard.get("editable", True):
        yield Finding(title, "is editable: what is provisioned would be overwritten")
    asking = [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
    for each in [*asking, *_annotations(dashboard)]:
        if each.get("datasource", {}).get("uid") != DATASOURCE_UID:
            yield Finding(each["name"], "has a fixed data source")


def _overlaps(dashboard: Json) -> Iterator[Finding]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(dashboard):
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in _lines(place)}
        others = {taken[cell] for cell in cells if cell in taken}
        for other in sorted(others):
            yield Finding(panel["title"], f"overlaps {other}")
        if place["x"] < 0 or place["x"] + place["w"] > GRID_WIDTH:
            yield Finding(panel["title"], "leaves the grid")
        taken.update((cell, panel["title"]) for cell in cells)


def _lines(place: Json) -> range:
    return range(place["y"], place["y"] + place["h"])


def _panel_findings(panel: Json) -> Iterator[str]:
    for key in ("title", "description", "targets"):
        if not panel.get(key):
            yield f"no {key}"
    if panel["type"] in SHOWS_NUMBERS and not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
        yield "no unit"
    for each in (panel, *panel.get("targets", ())):
        if each.get("datasource", {}).get("uid") != DATASOURCE_UID:
            yield "fixed data source"
    references = Counter(each.get("refId") for each in panel.get("targets", ()))
    if any(name is None or count > 1 for name, count in references.items()):
        yield "a refId is missing or used twice"


def _expression_findings(text: str, variables: Collection[str]) -> Iterator[str]:
    for match in _VARIABLE.finditer(text):
        if (match[1] or match[2]) not in {*variables, *BUILT_IN}:
            yield f"unknown variable {match[0]}"
    if re.search(r"(\[|\boffset)\s*\d", text):
        yield "a fixed window: use $__rate_interval, $__interval or $__range"
    try:
        found = selectors(substituted(text, _placeholders(text)))
    except ValueError as error:
        yield f"not PromQL: {error}"
        return
    for node in found:
        absent = {"job", "instance"} - {matcher.name for matcher in node.matchers.matchers}
        if absent:
            yield f"{node.name} without a matcher for {', '.join(sorted(absent))}"
    for name in _bare_counters(substituted(text, _placeholders(text))):
        yield f"the counter {name} without rate or increase"


def _bare_counters(expression: str) -> list[str]:
    """Counters that are read as they stand: their height says when they were last reset, not what happened."""
    windowed: list[str] = []

    def note(node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            windowed.append(node.vector_selector.name or "")

    promql_parser.walk(promql_parser.parse(expression), note)
    found = [node for node in selectors(expression) if (node.name or "").endswith("_total")]
    # Beside what it was a step ago, how it stands is how much it grew.
    windowed += [node.name for node in found for past in found if past.offset and past.name == node.name]
    return list((Counter(node.name for node in found) - Counter(windowed)).elements())


def _variable_values(base_url: str, dashboard: Json) -> tuple[dict[str, str], list[Finding]]:
    """What "All" of each variable stands for, in order, each narrowed by those before it."""
    values: dict[str, str] = {}
    found: list[Finding] = []
    for each in dashboard["templating"]["list"]:
        if each["type"] != "query":
            continue
        got = _label_values(base_url, substituted(each["query"]["query"], values))
        if not got:
            found.append(Finding(f"variable {each['name']}", f"no value from {each['query']['query']}"))
        values[each["name"]] = "|".join(map(re.escape, got)).replace("\\", "\\\\")
    return values, found


def _label_values(base_url: str, text: str) -> list[str]:
    match = _LABEL_VALUES.fullmatch(text)
    if match is None:
        return []
    parameters = {"match[]": match[1]} if match[1] else {}
    answer = httpx.get(f"{base_url}/api/v1/label/{match[2]}/values", params=parameters, timeout=LONGEST_WAIT).json()
    return list(answer.get("data") or ())


def _answer_findings(base_url: str, expression: Expression, quiet: bool) -> Iterator[str]:
    try:
        result = query(base_url, expression.text)
    except RealPartError as error:
        yield str(error)
        return
    if not result and not quiet:
        yield f"empty: {expression.text}"
    for label in expression.legend:
        if any(label not in series["metric"] for series in result):
            yield f"the legend's label {label} is not in the answer"
    for label in expression.columns:
        if result and all(label not in series["metric"] for series in result):
            yield f"the column's label {label} is not in the answer"
